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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/internal/worker"
	"ndferry/store/dir"
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
	start := func() (stop func()) {
		st, err := dir.Open(filepath.Join(tmp, "store"), dir.Config{})
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
	env := func(key string) (string, bool) {
		if key == "XDG_STATE_HOME" {
			return filepath.Join(tmp, "state"), true
		}
		return "", false
	}
	for _, c := range []struct {
		name, flag string
		change     bool
		secret     bool  // the change is not seen by the times of the file
		most       int64 // bytes sent by the second command
	}{
		{name: "goes on", flag: "--resume=auto", most: size/2 + 2<<20},
		{name: "sha256", flag: "--digest=sha256", most: size/2 + 2<<20},
		{name: "off", flag: "--resume=off", most: size + 1<<20},
		{name: "verify", flag: "--resume=verify", most: size/2 + 2<<20},
		{name: "verify finds a change", flag: "--resume=verify", change: true, secret: true, most: size + 1<<20},
		{name: "changed", flag: "--resume=auto", change: true, most: size + 1<<20},
	} {
		t.Run(c.name, func(t *testing.T) {
			stop := start()
			l := newLine(t, socket, size/2)
			put := func() (int, string) {
				var out, errs bytes.Buffer
				args := []string{"put", file, "a", "--addr", "unix://" + l.Addr().String(), "--chunk", "256KiB", "--retries", "0", "--json", c.flag}
				code := run(context.Background(), args, strings.NewReader(""), &out, &errs, env)
				return code, errs.String()
			}
			code, said := put()
			if code == ExitOK || (c.flag != "--resume=off") != strings.Contains(said, "the same command goes on") {
				t.Fatalf("a put over a line that broke: exit code %d, %s", code, said)
			}
			stop()
			defer start()()
			if c.change {
				change(t, file, text, c.secret)
			}
			if code, said := put(); code != ExitOK {
				t.Fatalf("exit code %d: %s", code, said)
			}
			sent := l.sent.Load() - size/2
			if sent > c.most || c.most > size && sent < size {
				t.Errorf("the second put sent %d bytes of %d", sent, size)
			}
			copied := filepath.Join(t.TempDir(), "copy.npy")
			var errs bytes.Buffer
			args := []string{"get", "a", copied, "--addr", "unix://" + socket}
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
