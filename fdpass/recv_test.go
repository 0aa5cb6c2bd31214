//go:build linux

package fdpass

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
)

func TestRecv_truncated(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
		audit(t)
		a, b := pair(t, Seqpacket)
		files, _ := memfds(t, 3)
		if err := errors.Join(a.Send([]byte("too long"), conns(files)...), a.Send([]byte("next"))); err != nil {
			t.Fatal(err)
		}
		before := len(fdtest.Open(t))
		if _, set, err := b.Recv(make([]byte, 4)); !errors.Is(err, ErrTruncated) || set != nil {
			t.Fatalf("got %v, %v", set, err)
		}
		if after := len(fdtest.Open(t)); after != before {
			t.Fatalf("%d descriptors leaked", after-before)
		}
		buf := make([]byte, 10)
		if n, _, err := b.Recv(buf); err != nil || string(buf[:n]) != "next" {
			t.Fatalf("next message: %q, %v", buf[:n], err)
		}
	})
	t.Run("control data", func(t *testing.T) {
		audit(t)
		a, b := pair(t, Seqpacket)
		files, _ := memfds(t, 5)
		if err := a.Send([]byte("x"), conns(files)...); err != nil {
			t.Fatal(err)
		}
		b.in.oob = b.in.oob[:unix.CmsgSpace(4)] // the tutorial's size
		before := len(fdtest.Open(t))
		_, set, err := b.Recv(make([]byte, 4))
		if !errors.Is(err, ErrTruncated) || errors.Is(err, ErrReceiverLimit) || set != nil {
			t.Fatalf("got %v, %v", set, err)
		}
		if after := len(fdtest.Open(t)); after != before {
			t.Fatalf("%d descriptors leaked", after-before)
		}
	})
}

// A process at its limit gets what fits; the rest is dropped by the kernel
// without an error of recvmsg.
func TestRecv_receiverLimit(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	files, _ := memfds(t, 10)
	if err := errors.Join(a.Send([]byte("x"), conns(files)...), a.Send([]byte("y"), files[0])); err != nil {
		t.Fatal(err)
	}
	release := useUpFiles(t, 4)
	before := len(openFDsRaw())
	_, set, err := b.Recv(make([]byte, 4))
	after := len(openFDsRaw())
	release()
	if !errors.Is(err, ErrTruncated) || !errors.Is(err, ErrReceiverLimit) || set != nil {
		t.Fatalf("got %v, %v", set, err)
	}
	if after != before {
		t.Fatalf("%d descriptors leaked", after-before)
	}
	_, set, err = b.Recv(make([]byte, 4))
	if err != nil || set.Len() != 1 {
		t.Fatalf("after the limit: %v", err)
	}
	set.Close()
}

// useUpFiles leaves this process with room for n more descriptors.
func useUpFiles(t testing.TB, n int) (release func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	// Descriptors are given out lowest first: find where n more end.
	var free []int
	for range n {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		free = append(free, fd)
	}
	low := old
	low.Cur = uint64(slices.Max(free) + 1)
	for _, fd := range free {
		unix.Close(fd)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

// openFDsRaw lists descriptors without opening one.
func openFDsRaw() []int {
	var open []int
	for fd := range 4096 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			open = append(open, fd)
		}
	}
	return open
}

func TestRecv_hostileCounts(t *testing.T) {
	for _, n := range []int{0, 1, 2, 252, 253} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			audit(t)
			a, b := pair(t, Seqpacket)
			rawSend(t, a, []byte("x"), slices.Repeat([]int{0}, n)...)
			_, set, err := b.Recv(make([]byte, 4))
			if err != nil || set.Len() != n {
				t.Fatalf("got %v, %v", set, err)
			}
			fdtest.Cloexec(t)
			err = set.Expect(1)
			if got := errors.Is(err, ErrCount); got != (n != 1) {
				t.Errorf("Expect(1) with %d: %v", n, err)
			}
			if got := errors.Is(err, ErrNone); got != (n == 0) {
				t.Errorf("Expect(1) with %d: %v", n, err)
			}
			set.Close()
		})
	}
}

func TestRecv_emptyMessages(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	rawSend(t, a, nil)
	rawSend(t, a, nil, 0, 0)
	rawSend(t, a, []byte("real"))
	buf := make([]byte, 10)
	for i := range 2 {
		if _, set, err := b.Recv(buf); !errors.Is(err, ErrEmpty) || set != nil {
			t.Fatalf("empty message %d: %v, %v", i, set, err)
		}
	}
	if n, _, err := b.Recv(buf); err != nil || string(buf[:n]) != "real" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	a.Close()
	if _, _, err := b.Recv(buf); !errors.Is(err, ErrPeerGone) || !errors.Is(err, io.EOF) {
		t.Fatalf("end: %v", err)
	}
	if _, _, err := b.Recv(nil); !errors.Is(err, ErrEmpty) {
		t.Fatalf("empty buffer: %v", err)
	}
}

func TestFiles(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	files, same := memfds(t, 20)
	if err := a.Send([]byte("x"), conns(files)...); err != nil {
		t.Fatal(err)
	}
	_, set, err := b.Recv(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := set.Take(7)
	if err != nil || !same(fd, 7) {
		t.Fatal(err)
	}
	if _, err := set.Take(7); !errors.Is(err, ErrTaken) {
		t.Errorf("take again: %v", err)
	}
	for _, i := range []int{-1, 20} {
		if _, err := set.Take(i); !errors.Is(err, ErrCount) || set.Peek(i) != -1 {
			t.Errorf("take %d: %v", i, err)
		}
	}
	if err := errors.Join(set.Close(), set.Close()); err != nil {
		t.Fatal(err)
	}
	if !same(fd, 7) {
		t.Error("close closed what had been taken")
	}
	if _, err := set.Take(0); !errors.Is(err, ErrTaken) {
		t.Errorf("take after close: %v", err)
	}
	unix.Close(fd)
}
