//go:build linux

package fdpass

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
)

// A peer sends files whose close hangs, in every way that this package closes
// for itself. Nothing waits for them, and they are closed in the end.
func TestDiscard_hungFile(t *testing.T) {
	audit(t)
	hung := fdtest.HungFile(t)
	a, b := pair(t, Seqpacket)
	buf := make([]byte, 10)
	rawSend(t, a, []byte("longer than the buffer"), hung.FD(), hung.FD())
	if _, _, err := b.Recv(buf); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
	rawSend(t, a, nil, hung.FD())
	if _, _, err := b.Recv(buf); !errors.Is(err, ErrEmpty) {
		t.Fatal(err)
	}
	rawSend(t, a, []byte("x"), hung.FD(), hung.FD())
	_, set, err := b.Recv(buf)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Expect(1); !errors.Is(err, ErrCount) {
		t.Fatal(err)
	}
	c, d := pair(t, Stream)
	rawSend(t, c, frameBytes(`{}`))
	rawSend(t, c, []byte("x"), hung.FD())
	if _, _, err := d.RecvFrame(context.Background()); !errors.Is(err, ErrFrame) {
		t.Fatal(err)
	}
	rawSend(t, a, []byte("good"))
	if n, _, err := b.Recv(buf); err != nil || string(buf[:n]) != "good" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if !hung.AwaitClose(6) {
		t.Error("not all of them are being closed")
	}
	for fd, target := range fdtest.Open(t) {
		if target == "/file" || fd != hung.FD() && target == fdtest.Open(t)[hung.FD()] {
			t.Errorf("descriptor %d is in the table while its close waits: a new process would hang on it", fd)
		}
	}
	hung.Release()
}

// What closes at once is closed before Discard returns.
func TestDiscard_kinds(t *testing.T) {
	audit(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	path, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(path)
	memory, err := unix.MemfdCreate("m", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(memory)
	a, b := pair(t, Seqpacket)
	c, _ := pair(t, Stream)
	before := fdtest.Open(t)
	if err := a.Send([]byte("x"), r, w, FD(path), FD(memory), c); err != nil {
		t.Fatal(err)
	}
	_, set, err := b.Recv(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	set.Discard()
	if after := fdtest.Open(t); len(after) != len(before) {
		t.Errorf("open before %v, after %v", before, after)
	}
	if !slices.Equal(set.fds, []int{-1, -1, -1, -1, -1}) {
		t.Errorf("the set has %v", set.fds)
	}
}
