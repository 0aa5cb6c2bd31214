package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/worker"
	"ndferry/store/dir"
	"ndferry/store/mem"
)

// line leads to a server and breaks its first connection after limit bytes.
type line struct {
	net.Listener
	sent  atomic.Int64
	limit int64
	tasks sync.WaitGroup
}

func newLine(t *testing.T, to string, limit int64) *line {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "line"))
	if err != nil {
		t.Fatal(err)
	}
	l := &line{Listener: ln, limit: limit}
	l.tasks.Add(1)
	go func() {
		defer l.tasks.Done()
		for limit := l.limit; ; limit = 1 << 60 {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", to)
			if err != nil {
				nc.Close()
				return
			}
			l.tasks.Add(2)
			go func() { defer l.tasks.Done(); io.Copy(nc, server); nc.Close() }()
			go func() {
				defer l.tasks.Done()
				io.Copy(server, io.LimitReader(counted{nc, &l.sent}, limit))
				server.Close()
				nc.Close()
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); l.tasks.Wait() })
	return l
}

// counted counts what is read.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// TestPutGoesOn interrupts a put, restarts the server, and runs the command again: only what is missing is sent. A file that
// was changed meanwhile, or --resume off, begins anew.
func TestPutGoesOn(t *testing.T) {
	const size = 8 << 20
	tmp := t.TempDir()
	file, socket := filepath.Join(tmp, "x.npy"), filepath.Join(tmp, "s")
	data := make([]byte, size)
	rand.Read(data)
	u1, err := array.ParseDType("|u1")
	if err != nil {
		t.Fatal(err)
	}
	text := append(array.AppendNPYHeader(nil, u1, array.Shape{size}, false), data...)
	if err := os.WriteFile(file, text, 0o666); err != nil {
		t.Fatal(err)
	}
	env := func(key string) (string, bool) {
		if key == "XDG_STATE_HOME" {
			return filepath.Join(tmp, "state"), true
		}
		return "", false
	}
	for i, c := range []struct {
		name, flag string
		more       string // a flag of the second command
		change     bool
		secret     bool  // the change is not seen by the time of the file
		leaf       bool  // a sample is not what it was
		most       int64 // bytes sent by the second command
	}{
		{name: "goes on", flag: "--resume=auto", most: size/2 + 2<<20},
		{name: "sha256", flag: "--digest=sha256", most: size/2 + 2<<20},
		{name: "other dims", flag: "--resume=auto", more: "--dims=x", most: size + 1<<20},
		{name: "only if absent", flag: "--resume=auto", more: "--if-absent", most: size + 1<<20},
		{name: "off", flag: "--resume=off", most: size + 1<<20},
		{name: "verify", flag: "--resume=verify", most: size/2 + 2<<20},
		{name: "verify finds a change", flag: "--resume=verify", change: true, secret: true, most: size + 1<<20},
		{name: "changed", flag: "--resume=auto", change: true, most: size + 1<<20},
		{name: "changed, and its time set back", flag: "--resume=auto", change: true, secret: true, most: size + 1<<20},
		{name: "a leaf differs", flag: "--resume=auto", leaf: true, most: size*3/2 + 2<<20}, // it is found while what is missing is sent
	} {
		t.Run(c.name, func(t *testing.T) {
			stop := serveAgain(t, filepath.Join(tmp, "store"), socket)
			l := newLine(t, socket, size/2)
			stored := fmt.Sprint("a", i)
			put := func(more ...string) (int, string) {
				var out, errs bytes.Buffer
				args := []string{"put", file, stored, "--addr", "unix://" + l.Addr().String(), "--chunk", "256KiB", "--retries", "0", "--json", c.flag}
				args = append(args, more...)
				code := run(context.Background(), args, strings.NewReader(""), &out, &errs, env)
				return code, errs.String()
			}
			code, said := put()
			if code == ExitOK || (c.flag != "--resume=off") != strings.Contains(said, "the same command goes on") {
				t.Fatalf("a put over a line that broke: exit code %d, %s", code, said)
			}
			stop()
			defer serveAgain(t, filepath.Join(tmp, "store"), socket)()
			if c.change {
				change(t, file, text, c.secret)
			}
			if c.leaf {
				spoilLeaf(t, filepath.Join(tmp, "state", "ndferry"))
			}
			var more []string
			if c.more != "" {
				more = []string{c.more}
			}
			code, said = put(more...)
			if code != ExitOK {
				t.Fatalf("exit code %d: %s", code, said)
			}
			if c.more != "" && strings.Contains(said, "what was interrupted") {
				t.Errorf("a command that asks for something else went on: %s", said)
			}
			sent := l.sent.Load() - size/2
			if sent > c.most || c.most > size && sent < size {
				t.Errorf("the second put sent %d bytes of %d", sent, size)
			}
			copied := filepath.Join(t.TempDir(), "copy.npy")
			var errs bytes.Buffer
			args := []string{"get", stored, copied, "--addr", "unix://" + socket}
			if code := run(context.Background(), args, nil, io.Discard, &errs, env); code != ExitOK {
				t.Fatalf("get: exit code %d: %s", code, errs.String())
			}
			if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, text) {
				t.Errorf("the copy differs, error %v", err)
			}
			left, err := os.ReadDir(filepath.Join(tmp, "state", "ndferry"))
			if err != nil || len(left) > 0 {
				t.Errorf("remembered after the end: %v, error %v", left, err)
			}
		})
	}
}

// serveAgain serves a directory on a Unix socket until stop.
func serveAgain(t *testing.T, store, socket string) (stop func()) {
	t.Helper()
	st, err := dir.Open(store, dir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := worker.New(st, worker.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	go srv.Serve(ln)
	return func() {
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

// change changes a byte of a file and of its text; secretly, the times of the file say nothing of it.
func change(t *testing.T, file string, text []byte, secret bool) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	at := len(text) - 1
	if secret {
		at /= 2
	}
	text[at]++
	if err := os.WriteFile(file, text, 0o666); err != nil {
		t.Fatal(err)
	}
	if !secret {
		return
	}
	if err := os.Chtimes(file, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// spoilLeaf changes one of the 16 leaves that are remembered.
func spoilLeaf(t *testing.T, dir string) {
	t.Helper()
	b := begun(t, dir)
	if len(b.Samples) != samples {
		t.Fatalf("%d samples", len(b.Samples))
	}
	b.Samples[samples-1].SHA256 = b.Samples[0].SHA256
	if err := b.write(dir); err != nil {
		t.Fatal(err)
	}
}

// begun reads the one transfer that is remembered.
func begun(t *testing.T, dir string) *begunPut {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(list) != 1 {
		t.Fatalf("remembered: %v, error %v", list, err)
	}
	b := readTransfer(list[0])
	if b == nil {
		t.Fatalf("nothing is remembered in %s", list[0])
	}
	b.path = list[0]
	return b
}

// TestPutStoredBefore loses the receipt of a put, and the array afterwards: the same command gets the receipt and warns.
func TestPutStoredBefore(t *testing.T) {
	tmp := t.TempDir()
	file, socket := filepath.Join(tmp, "x.npy"), filepath.Join(tmp, "s")
	if err := os.WriteFile(file, npyText(t, false), 0o666); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := worker.New(mem.New(mem.Config{}), worker.Config{Log: slog.New(slog.DiscardHandler)})
	go srv.Serve(ln)
	defer srv.Shutdown(t.Context())
	l := newLine(t, socket, getSize/2)
	env := func(key string) (string, bool) { return filepath.Join(tmp, "state"), key == "XDG_STATE_HOME" }
	put := func() (int, string) {
		var errs bytes.Buffer
		code := run(context.Background(), []string{"put", file, "a", "--addr", "unix://" + l.Addr().String(), "--chunk", "256KiB", "--retries", "0"}, nil, io.Discard, &errs, env)
		return code, errs.String()
	}
	if code, said := put(); code == ExitOK {
		t.Fatalf("a put over a line that broke: %s", said)
	}
	dir := filepath.Join(tmp, "state", "ndferry")
	b := begun(t, dir)
	c, err := client.Dial(t.Context(), "unix://"+socket, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src, err := client.OpenNPY(file)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	opts := client.PutOptions{ID: b.ID, ChunkBytes: 256 << 10, Resume: true}
	for _, says := range []string{"it was deleted since", "another one took its name"} {
		if _, err := c.PutFrom(t.Context(), "a", src, opts); err != nil { // the receipt comes, and is lost with this process
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if says != "it was deleted since" {
			if _, err := c.PutFrom(t.Context(), "a", src, client.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if code, said := put(); code != ExitOK || !strings.Contains(said, says) {
			t.Errorf("exit code %d: %s; %q was expected", code, said, says)
		}
		b.path = filepath.Join(dir, filepath.Base(b.path))
		if err := b.write(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := c.PutFrom(t.Context(), "a", src, client.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}
