package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/worker"
	"ndferry/store/mem"
)

// throttle is a listener whose connections end after they have sent limit bytes in all; later ones count.
type throttle struct {
	net.Listener
	left atomic.Int64 // bytes that may still be sent
	sent atomic.Int64
}

func (l *throttle) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return &throttled{nc, l}, err
}

type throttled struct {
	net.Conn
	line *throttle
}

// Write implements net.Conn.
func (c *throttled) Write(p []byte) (int, error) {
	if left := c.line.left.Add(-int64(len(p))); left < 0 {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	c.line.sent.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// getCase is a get that broke off and what happens before it is run again.
type getCase struct {
	name    string
	put     []string // flags of the put
	fortran bool
	first   []string // flags of the first get
	again   []string // flags of the second
	between func(t *testing.T, dir string, put func())
	most    int64 // bytes that the second may get
	least   int64
	says    string // of the second
	fails   bool   // the first does not say how to go on
}

const getSize = 8 << 20

var getCases = []getCase{
	{name: "goes on", most: getSize/2 + 2<<20, says: "going on with"},
	{name: "verify", again: []string{"--resume=verify"}, most: getSize/2 + 2<<20, says: "all of them were read"},
	{name: "off", first: []string{"--resume=off"}, least: getSize, most: getSize + 1<<20, fails: true},
	{name: "off now", again: []string{"--resume=off"}, least: getSize, most: getSize + 1<<20},
	{name: "sha256", put: []string{"--digest=sha256"}, most: getSize/2 + 2<<20, says: "going on with"},
	{name: "compressed", put: []string{"--codec=lz4"}, most: getSize/2 + 2<<20, says: "going on with"},
	{name: "compressed sha256 in Fortran order", put: []string{"--codec=zstd", "--level=1", "--digest=sha256"}, fortran: true, most: getSize/2 + 2<<20, says: "going on with"},
	{name: "streams", first: []string{"--streams=3"}, again: []string{"--streams=3"}, most: getSize/2 + 3<<20, says: "going on with"},
	{name: "replaced", between: func(t *testing.T, _ string, put func()) { put() }, least: getSize, most: getSize + 1<<20, says: "replaced since"},
	{name: "damaged", between: func(t *testing.T, dir string, _ func()) { flip(t, filepath.Join(dir, ".a.npy.part"), 1<<20) },
		most: getSize/2 + 3<<20, says: "all of them were read"},
	{name: "cut off", between: func(t *testing.T, dir string, _ func()) {
		if err := os.Truncate(filepath.Join(dir, ".a.npy.part"), 1<<20); err != nil {
			t.Fatal(err)
		}
	}, most: getSize + 1<<20, least: getSize - 1<<20, says: "all of them were read"},
	{name: "file gone", between: func(t *testing.T, dir string, _ func()) { remove(t, filepath.Join(dir, ".a.npy.part")) },
		least: getSize, most: getSize + 1<<20, says: "not in the file any more"},
	{name: "state gone", between: func(t *testing.T, dir string, _ func()) { remove(t, filepath.Join(dir, ".a.npy.part.state")) },
		least: getSize, most: getSize + 1<<20},
	{name: "state damaged", between: func(t *testing.T, dir string, _ func()) { flip(t, filepath.Join(dir, ".a.npy.part.state"), 40) },
		least: getSize, most: getSize + 1<<20, says: "is damaged"},
	{name: "state of another version", between: func(t *testing.T, dir string, _ func()) {
		path := filepath.Join(dir, ".a.npy.part.state")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		copy(b[8:], newerState)
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}, least: getSize, most: getSize + 1<<20, says: "version 2, and this program reads version 1"},
	{name: "finished under another name", between: func(t *testing.T, dir string, _ func()) {
		if err := os.Link(filepath.Join(dir, ".a.npy.part"), filepath.Join(dir, "other.npy")); err != nil {
			t.Fatal(err)
		}
	}, least: getSize, most: getSize + 1<<20, says: "not in the file any more"},
}

// newerState is version 2 of the state and the CRC32C behind it.
var newerState = []byte{2, 0, 0, 0, 0x3c, 0x19, 0xd2, 0x79}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestGetGoesOn interrupts a get to a file and runs the command again: only what is missing comes, and what is in the file is never
// taken for good when it is not what came.
func TestGetGoesOn(t *testing.T) {
	for _, c := range getCases {
		t.Run(c.name, func(t *testing.T) { c.run(t) })
	}
}

func (c *getCase) run(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l := &throttle{Listener: ln}
	l.left.Store(1 << 60)
	srv := worker.New(mem.New(mem.Config{}), worker.Config{Log: slog.New(slog.DiscardHandler)})
	go srv.Serve(l)
	defer func() {
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	tmp := t.TempDir()
	env := func(key string) (string, bool) { return filepath.Join(tmp, "state"), key == "XDG_STATE_HOME" }
	command := func(args ...string) (int, string) {
		var errs bytes.Buffer
		code := run(context.Background(), append(args, "--addr", "unix://"+ln.Addr().String()), strings.NewReader(""), io.Discard, &errs, env)
		return code, errs.String()
	}
	var text []byte
	put := func() {
		text = npyText(t, c.fortran)
		file := filepath.Join(tmp, "source.npy")
		if err := os.WriteFile(file, text, 0o666); err != nil {
			t.Fatal(err)
		}
		if code, said := command(append([]string{"put", file, "a", "--chunk", "256KiB"}, c.put...)...); code != ExitOK {
			t.Fatalf("put: exit code %d: %s", code, said)
		}
	}
	put()
	dir := t.TempDir()
	copied := filepath.Join(dir, "a.npy")
	l.left.Store(getSize / 2)
	code, said := command(append([]string{"get", "a", copied, "--retries=0"}, c.first...)...)
	if code == ExitOK || c.fails == strings.Contains(said, "the same command goes on") {
		t.Fatalf("a get over a line that broke: exit code %d, %s", code, said)
	}
	l.left.Store(1 << 60)
	if c.between != nil {
		c.between(t, dir, put)
	}
	l.sent.Store(0)
	code, said = command(append([]string{"get", "a", copied}, c.again...)...)
	if code != ExitOK || !strings.Contains(said, c.says) {
		t.Fatalf("exit code %d: %s; %q was expected", code, said, c.says)
	}
	if sent := l.sent.Load(); sent > c.most || sent < c.least {
		t.Errorf("the second get got %d bytes of %d", sent, getSize)
	}
	if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the copy differs, error %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

// npyText is a .npy file of random elements, of which the last cells are padded.
func npyText(t *testing.T, fortran bool) []byte {
	t.Helper()
	d, err := array.ParseDType("<f8")
	if err != nil {
		t.Fatal(err)
	}
	shape := array.Shape{getSize / 8 / 331, 331}
	n, err := shape.Bytes(8)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, n)
	rand.Read(data)
	return append(array.AppendNPYHeader(nil, d, shape, fortran), data...)
}

// TestGetBesideGet gets to one file twice at a time: the second does not touch what the first has begun.
func TestGetBesideGet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	one, err := client.ResumeNPY(path, client.ResumeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	two, err := client.ResumeNPY(path, client.ResumeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil || len(list) != 3 {
		t.Errorf("%v, error %v", list, err)
	}
	for _, s := range []*client.NPYSink{two, one} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if list, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, error %v", list, err)
	}
}
