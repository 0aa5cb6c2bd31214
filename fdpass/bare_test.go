//go:build linux

package fdpass

import (
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
)

// barePair is pair with its second end out of the runtime's poller.
func barePair(t *testing.T) (a, b *Conn) {
	t.Helper()
	a, c := pair(t, Seqpacket)
	fd, err := c.Detach()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = Bare(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return a, b
}

// TestBare_tries sends and receives without waiting.
func TestBare_tries(t *testing.T) {
	audit(t)
	a, b := barePair(t)
	var files Files
	buf := make([]byte, 10)
	if n, ok, err := b.TryRecv(buf, &files); n != 0 || ok || err != nil {
		t.Fatalf("of nothing: %d, %v, %v", n, ok, err)
	}
	if ok, err := a.TrySend([]byte("one"), 0, 1); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if n, ok, err := b.TryRecv(buf, &files); string(buf[:n]) != "one" || !ok || err != nil || files.Len() != 2 {
		t.Fatalf("%q, %v, %v, %d files", buf[:n], ok, err, files.Len())
	}
	fdtest.Cloexec(t)
	rawSend(t, a, []byte("longer than the buffer"), 0, 1)
	if _, ok, err := b.TryRecv(buf, &files); !ok || !errors.Is(err, ErrTruncated) || files.Len() != 0 {
		t.Fatalf("%v, %v, %d files", ok, err, files.Len())
	}
	sent := 0
	for ; sent < 1<<16; sent++ {
		ok, err := b.TrySend([]byte("more"))
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
	}
	if sent == 0 || sent == 1<<16 {
		t.Fatalf("the queue was full after %d messages", sent)
	}
	for range sent {
		if n, ok, err := a.TryRecv(buf, &files); !ok || err != nil || string(buf[:n]) != "more" {
			t.Fatalf("%q, %v, %v", buf[:n], ok, err)
		}
	}
	if _, err := a.TrySend(nil); !errors.Is(err, ErrEmpty) {
		t.Error(err)
	}
	if _, err := a.TrySend([]byte("x"), -1); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	a.Close()
	if _, ok, err := b.TryRecv(buf, &files); !ok || !errors.Is(err, ErrPeerGone) {
		t.Error(ok, err)
	}
	if _, err := b.TrySend([]byte("x")); !errors.Is(err, ErrPeerGone) {
		t.Error(err)
	}
	b.Close()
	if _, _, err := b.TryRecv(buf, &files); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	c, _ := pair(t, Stream)
	if _, err := c.TrySend([]byte("x")); !errors.Is(err, unix.EPROTOTYPE) {
		t.Error(err)
	}
}

// TestBare_waits ends waits on a bare socket by a message, a deadline, room and Close.
func TestBare_waits(t *testing.T) {
	audit(t)
	a, b := barePair(t)
	type got struct {
		text string
		err  error
	}
	recv := func() chan got {
		done := make(chan got, 1)
		go func() {
			buf := make([]byte, 10)
			n, files, err := b.Recv(buf)
			if err == nil {
				files.Close()
			}
			done <- got{string(buf[:n]), err}
		}()
		return done
	}
	done := recv()
	a.Send([]byte("hello"))
	if g := <-done; g.text != "hello" || g.err != nil {
		t.Errorf("%+v", g)
	}
	done = recv()
	time.Sleep(time.Millisecond) // it may wait or not yet: both must end
	b.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if g := <-done; !errors.Is(g.err, ErrTimeout) {
		t.Errorf("%+v", g)
	}
	b.SetReadDeadline(time.Time{})
	for ok := true; ok; {
		ok, _ = b.TrySend([]byte("x"))
	}
	sent := make(chan error, 1)
	go func() { sent <- b.Send([]byte("last")) }()
	buf := make([]byte, 10)
	for string(buf[:4]) != "last" {
		if _, files, err := a.Recv(buf); err != nil {
			t.Fatal(err)
		} else {
			files.Close()
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	done = recv()
	time.Sleep(time.Millisecond)
	b.Close()
	if g := <-done; !errors.Is(g.err, net.ErrClosed) {
		t.Errorf("%+v", g)
	}
	if _, err := Bare(0x7fff_fff0); err == nil {
		t.Error("a Conn of no descriptor")
	}
}

// TestDetach wakes who waits, and keeps what is queued.
func TestDetach(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	done := make(chan error, 1)
	go func() {
		_, _, err := b.Recv(make([]byte, 1))
		done <- err
	}()
	for b.reads.state.Load() != held {
		time.Sleep(time.Millisecond)
	}
	fd, err := b.Detach()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := a.Send([]byte("queued"), FD(0)); err != nil {
		t.Fatal(err)
	}
	c, err := Bare(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 10)
	if n, files, err := c.Recv(buf); err != nil || string(buf[:n]) != "queued" || files.Expect(1) != nil {
		t.Errorf("%q, %v", buf[:n], err)
	} else {
		files.Close()
	}
	if _, err := b.Detach(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestAbandon_waitsForNothing gives up more files whose close hangs than are closed at a time.
func TestAbandon_waitsForNothing(t *testing.T) {
	audit(t)
	hung := fdtest.HungFile(t)
	a, b := barePair(t)
	var files Files
	for range 3 {
		rawSend(t, a, []byte("x"), slices.Repeat([]int{hung.FD()}, 30)...)
		if _, ok, err := b.TryRecv(make([]byte, 1), &files); !ok || err != nil || files.Len() != 30 {
			t.Fatal(ok, err, files.Len())
		}
		files.Abandon()
	}
	if !hung.AwaitClose(64) {
		t.Error("not as many as can be are being closed")
	}
	hung.Release()
	if !hung.AwaitClose(90) {
		t.Error("not all are closed")
	}
}
