//go:build unix

package client

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connected is both ends of a Unix pair.
func connected(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "end")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0], ends[1]
}

func eagerOf(t *testing.T, nc net.Conn) *eager {
	t.Helper()
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return &eager{raw: raw}
}

// TestEager_ends reads as the connection would: bytes, the end, a deadline, after it was closed.
func TestEager_ends(t *testing.T) {
	ours, theirs := connected(t)
	e := eagerOf(t, ours)
	buf := make([]byte, 10)
	go func() {
		time.Sleep(2 * time.Millisecond) // asleep by then
		theirs.Write([]byte("abc"))
	}()
	if n, err := e.Read(buf); n != 3 || err != nil {
		t.Errorf("%d bytes, error %v", n, err)
	}
	ours.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if n, err := e.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, error %v, want a deadline", n, err)
	}
	ours.SetReadDeadline(time.Time{})
	theirs.Close()
	if n, err := e.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, error %v, want EOF", n, err)
	}
	ours.Close()
	if n, err := e.Read(buf); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d bytes, error %v, want closed", n, err)
	}
}

// parking is a connection that tells when its reader sleeps.
type parking struct {
	syscall.RawConn
	asleep func()
}

func (p parking) Read(f func(uintptr) bool) (err error) {
	done := false
	for !done && err == nil {
		err = p.Control(func(fd uintptr) { done = f(fd) })
		if !done {
			p.asleep()
		}
	}
	return err
}

// TestEager_slow has a peer that writes only to who sleeps: asking for nothing becomes rare. What is there already is not waited for.
func TestEager_slow(t *testing.T) {
	ours, theirs := connected(t)
	one := make([]byte, 1)
	write := func() {
		if _, err := theirs.Write(one); err != nil {
			t.Fatal(err)
		}
	}
	e := eagerOf(t, ours)
	e.raw = parking{e.raw, write}
	read := func() {
		if n, err := e.Read(one); n != 1 || err != nil {
			t.Fatalf("%d bytes, error %v", n, err)
		}
	}
	asked := 0
	for range 200 {
		if e.skip == 0 {
			asked++
		}
		read()
	}
	if asked < 6 || asked > 10 {
		t.Errorf("%d of 200 waits began with asking, want 6 to 10", asked)
	}
	missed, skip := e.missed, e.skip
	for range 100 {
		write()
		read()
	}
	if e.missed != missed || e.skip != skip {
		t.Errorf("what was there already counts: %d and %d, were %d and %d", e.missed, e.skip, missed, skip)
	}
}
