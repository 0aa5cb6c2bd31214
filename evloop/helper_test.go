//go:build linux

package evloop

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is for what must happen: it bounds a test that hangs, and judges nothing.
const patience = time.Minute

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// lockedBuffer collects a log that two goroutines share.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a loop with a goroutine of its own.
type running struct {
	*Loop
	t    testing.TB
	done chan error
}

func startLoop(t testing.TB, cfg Config) *running {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = quietLog()
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, l)
}

func start(t testing.TB, l *Loop) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Loop: l, t: t, done: make(chan error, 1)}
	go func() { r.done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
			r.done <- nil
		case <-time.After(patience):
			t.Error("loop does not stop")
		}
	})
	return r
}

// do runs f on the loop and waits for it.
func (r *running) do(f func()) {
	r.t.Helper()
	ran := make(chan struct{})
	if err := r.Post(func() { defer close(ran); f() }); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-ran:
	case <-time.After(patience):
		r.t.Fatal("loop does not run what was posted")
	}
}

func (r *running) listen(network, addr string, h func() Handler) *Listener {
	r.t.Helper()
	var ln *Listener
	var err error
	r.do(func() { ln, err = r.Listen(network, addr, h) })
	if err != nil {
		r.t.Fatal(err)
	}
	return ln
}

func (r *running) stats() (s LoopStats) {
	r.do(func() { s = r.Stats() })
	return s
}

// eventually polls cond until it holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// recv waits for a value with a deadline.
func recv[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func eachBackend(t *testing.T, f func(t *testing.T, backend string)) {
	for _, b := range Backends() {
		t.Run(b, func(t *testing.T) { f(t, b) })
	}
}

// funcs is a Handler of functions; nil ones do nothing.
type funcs struct {
	open    func(c *Conn)
	data    func(c *Conn, b []byte) int
	drained func(c *Conn)
	closed  func(c *Conn, err error)
}

func (h *funcs) Open(c *Conn) {
	if h.open != nil {
		h.open(c)
	}
}

func (h *funcs) Data(c *Conn, b []byte) int {
	if h.data != nil {
		return h.data(c, b)
	}
	return len(b)
}

func (h *funcs) Drained(c *Conn) {
	if h.drained != nil {
		h.drained(c)
	}
}

func (h *funcs) Close(c *Conn, err error) {
	if h.closed != nil {
		h.closed(c, err)
	}
}

// echo answers every byte with itself.
type echo struct{ Base }

func (echo) Data(c *Conn, b []byte) int {
	if _, err := c.Write(b); err != nil {
		c.Abort(err)
	}
	return len(b)
}

func newEcho() Handler { return echo{} }

// pair is a connection: fd for the loop, peer for the test.
type pair struct {
	fd   int
	peer *os.File
}

// socketPair returns a connected stream pair of the network, "tcp" or
// "unix". The loop's side is moved to a number of at least low.
func socketPair(t testing.TB, network string, low int) pair {
	t.Helper()
	var fds [2]int
	if network == "unix" {
		var err error
		fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		check(t, err)
	} else {
		ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		check(t, err)
		check(t, unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
		check(t, unix.Listen(ln, 1))
		addr, err := unix.Getsockname(ln)
		check(t, err)
		fds[1], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		check(t, err)
		check(t, unix.Connect(fds[1], addr))
		fds[0], _, err = unix.Accept(ln)
		check(t, err)
		check(t, unix.Close(ln))
		check(t, unix.SetNonblock(fds[1], true))
	}
	return pair{raise(t, fds[0], low), file(t, fds[1])}
}

// raise moves fd to a number of at least low.
func raise(t testing.TB, fd, low int) int {
	t.Helper()
	if low == 0 {
		return fd
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, low)
	check(t, err)
	check(t, unix.Close(fd))
	return high
}

// file makes a pollable os.File of a non-blocking descriptor.
func file(t testing.TB, fd int) *os.File {
	f := os.NewFile(uintptr(fd), "peer")
	check(t, f.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// pipePair returns a pipe; the loop gets the reading end if read.
func pipePair(t testing.TB, read bool, low int) pair {
	t.Helper()
	var p [2]int
	check(t, unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	if read {
		return pair{raise(t, p[0], low), file(t, p[1])}
	}
	return pair{raise(t, p[1], low), file(t, p[0])}
}

func (r *running) adopt(fd int, h Handler) *Conn {
	r.t.Helper()
	var c *Conn
	var err error
	r.do(func() { c, err = r.Adopt(fd, nil, h) })
	check(r.t, err)
	return c
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// closeWrite ends the peer's side.
func closeWrite(t testing.TB, f *os.File) {
	t.Helper()
	raw, err := f.SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }))
	check(t, err)
}

func dial(t testing.TB, ln *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	check(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// roundTrip sends data while it reads the answer, and compares.
func roundTrip(t testing.TB, w io.Writer, r io.Reader, data []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := w.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	check(t, recv(t, sent))
	if !bytes.Equal(got, data) {
		t.Fatal("the answer differs from what was sent")
	}
}

func socketPath(t testing.TB) string { return filepath.Join(t.TempDir(), "s") }
