package frozen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"ndferry/internal/worker"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/mem"
	"ndferry/wire"
)

// recordedAt is what clocks of servers say while conversations are recorded and replayed.
var recordedAt = time.Date(2026, 12, 1, 12, 0, 0, 123456789, time.UTC)

func clock() time.Time { return recordedAt }

// server is a server of today over a new store.
type server struct {
	t    testing.TB
	srv  *worker.Server
	path string // of its socket
	down chan error
}

// startServer starts a server. kind is dir, mem or frozen.
func startServer(t testing.TB, kind, driver string) *server {
	t.Helper()
	place := t.TempDir()
	var st store.Store
	var err error
	switch kind {
	case "mem":
		st = mem.New(mem.Config{Now: clock})
	case "frozen":
		if err := os.CopyFS(filepath.Join(place, "store"), os.DirFS(filepath.Join(root, "store"))); err != nil {
			t.Fatal(err)
		}
		fallthrough
	case "dir":
		foreign := filepath.Join(place, "store", "zarr", "foreign", "zarr.json")
		if err := os.Chtimes(foreign, recordedAt, recordedAt); kind == "frozen" && err != nil { // its time is that of the array
			t.Fatal(err)
		}
		st, err = dir.Open(filepath.Join(place, "store"), dir.Config{Now: clock, Uptime: func() time.Duration { return 0 }, Log: slog.New(slog.DiscardHandler)})
	default:
		t.Fatalf("store %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, st, driver)
}

func serve(t testing.TB, st store.Store, driver string) *server {
	t.Helper()
	s := &server{t: t, path: filepath.Join(t.TempDir(), "s"), down: make(chan error, 1)}
	ln, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := worker.Config{Log: slog.New(slog.DiscardHandler), Driver: driver}
	cfg.Session.Software = "ndferry v1"
	cfg.Session.Handshake = patience // many run at once
	s.srv = worker.New(st, cfg)
	served := make(chan error, 1)
	go func() { served <- s.srv.Serve(ln) }()
	t.Cleanup(func() {
		if err := s.srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// drain begins to end the server.
func (s *server) drain() {
	go func() { s.down <- s.srv.Shutdown(context.Background()) }()
}

const patience = time.Minute

func (s *server) dial() net.Conn {
	nc, err := net.Dial("unix", s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	return nc
}

// readFrame reads a frame from a stream.
func readFrame(r io.Reader) ([]byte, error) {
	b := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	h, err := wire.ParseHeader(b)
	if err != nil {
		return b, err
	}
	b = append(b, make([]byte, frameSize(h)-len(b))...)
	_, err = io.ReadFull(r, b[wire.HeaderSize:])
	return b, err
}

// TestServer says to servers of today what clients said to those of version 1, and hears the same answers.
func TestServer(t *testing.T) {
	if *update {
		t.Skip("the conversations are being recorded")
	}
	for _, driver := range []string{worker.GoroutineDriver, worker.LoopDriver} {
		for _, tr := range transcripts(t) {
			t.Run(driver+"/"+tr.name, func(t *testing.T) {
				t.Parallel()
				tr.toServer(t, startServer(t, tr.store, driver))
			})
		}
	}
}

// toServer replays what the clients said.
func (tr *transcript) toServer(t *testing.T, s *server) {
	conns := map[int]net.Conn{}
	for i := 0; i < len(tr.lines); i++ {
		l := tr.lines[i]
		if conns[l.conn] == nil && l.from != 'E' && l.from != 'W' {
			conns[l.conn] = s.dial()
		}
		switch l.from {
		case 'C':
			if _, err := conns[l.conn].Write(l.data); err != nil {
				t.Fatalf("line %d: %v", i, err)
			}
		case 'D':
			hangUp(t, conns[l.conn])
		case 'E':
			s.drain()
		case 'X':
			if b, err := nextFrame(conns[l.conn]); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("line %d: %x, error %v where the server closed", i, b, err)
			}
		case 'S':
			var want, got []line
			for ; i < len(tr.lines) && tr.lines[i].from == 'S' && tr.lines[i].conn == l.conn; i++ {
				if h, _, _ := tr.lines[i].frame(); !pacing(h.Kind) {
					want = append(want, tr.lines[i])
				}
			}
			i--
			for range want {
				b, err := nextFrame(conns[l.conn])
				if err != nil {
					t.Fatalf("line %d: %v after %d of %d answers", i, err, len(got), len(want))
				}
				got = append(got, line{from: 'S', conn: l.conn, data: b})
			}
			sortCells(want)
			sortCells(got)
			for k := range want {
				if why := differ(&want[k], &got[k]); why != "" {
					t.Errorf("line %d: %.1000s", i, why)
				}
			}
		}
	}
}

// hangUp breaks a connection when the server has taken all that was said on it.
func hangUp(t testing.TB, nc net.Conn) {
	t.Helper()
	if err := nc.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, nc); err != nil {
		t.Fatal(err)
	}
	if err := nc.Close(); err != nil {
		t.Fatal(err)
	}
}

// nextFrame reads the next frame that is not about pace.
func nextFrame(nc net.Conn) ([]byte, error) {
	for {
		b, err := readFrame(nc)
		if err != nil {
			return b, err
		}
		if h, err := wire.ParseHeader(b); err != nil || !pacing(h.Kind) {
			return b, err
		}
	}
}

// sortCells sorts the answers that may come in any order: cells.
func sortCells(lines []line) {
	for i := range lines {
		for j := i; j > 0; j-- {
			a, _, _ := lines[j-1].frame()
			b, _, _ := lines[j].frame()
			if a.Kind != wire.Chunk || b.Kind != wire.Chunk || a.Stream != b.Stream || a.Index <= b.Index {
				break
			}
			lines[j-1], lines[j] = lines[j], lines[j-1]
		}
	}
}

// differ tells what of an answer is another one than was recorded; README.md of the recordings says what may be.
func differ(want, got *line) string {
	x, a, ok := want.frame()
	y, b, good := got.frame()
	switch {
	case !ok || !good:
		return "no frame"
	case x.Kind != y.Kind || x.Stream != y.Stream || x.Index != y.Index || x.Raw != y.Raw || x.Flags != y.Flags || x.Handles != y.Handles:
		return x.Kind.String() + " was answered, now " + y.Kind.String() + ": " + string(b) + "; a header differs"
	case len(a) == 0 || a[0] != '{':
		if crc, _, err := wire.ParseTrailer(want.data[len(want.data)-wire.TrailerSize:]); len(a) > 0 && err == nil && crc != wire.Checksum(a) {
			a, b = nil, nil // it was damaged on its way to the client that recorded it
		}
		if !slices.Equal(a, b) || !slices.Equal(want.data[wire.HeaderSize+int(x.Length):], got.data[wire.HeaderSize+int(y.Length):]) {
			return x.Kind.String() + " has another payload"
		}
		return ""
	}
	var m, n map[string]any
	if err := errors.Join(json.Unmarshal(a, &m), json.Unmarshal(b, &n)); err != nil {
		return x.Kind.String() + ": " + err.Error()
	}
	for key, value := range m {
		switch {
		case key == "software" || x.Kind == wire.Fail && key == "message":
			if _, ok := n[key].(string); !ok {
				return x.Kind.String() + " lacks " + key
			}
		case x.Kind == wire.Hello && (key == "features" || key == "codecs" || key == "digests"):
			list, _ := n[key].([]any)
			for _, v := range value.([]any) {
				if !slices.Contains(list, v) {
					return "HELLO lacks the " + key + " " + v.(string)
				}
			}
		case x.Kind == wire.Hello && (key == "versions" || key == "credit"):
		case !reflect.DeepEqual(value, n[key]):
			return fmt.Sprintf("%v: %s differs: %.400v was answered, now %.400v", x.Kind, key, value, n[key])
		}
	}
	return ""
}

// TestEveryKind makes sure that every kind of frame that version 1 speaks is in a conversation.
func TestEveryKind(t *testing.T) {
	if *update {
		t.Skip("the conversations are being recorded")
	}
	seen := map[wire.Kind]bool{}
	for _, tr := range transcripts(t) {
		for _, l := range tr.lines {
			if h, _, ok := l.frame(); ok {
				seen[h.Kind] = true
			}
		}
	}
	for k := range 256 {
		if kind := wire.Kind(k); (kind.Known() || kind == wire.GoAway) && !seen[kind] {
			t.Errorf("no conversation has %v", kind)
		}
	}
}
