//go:build linux

package fdpass

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSend_usesEveryKindOfLender(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	files, same := memfds(t, 1)
	if err := a.Send([]byte("x"), ln.(*net.TCPListener), files[0], FD(files[0].Fd()), b); err != nil {
		t.Fatal(err)
	}
	_, set, err := b.Recv(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if set.Len() != 4 || !same(set.Peek(1), 0) || !same(set.Peek(2), 0) {
		t.Fatalf("got %d descriptors", set.Len())
	}
	got, err := set.TakeListener(0)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got.Addr().String() != ln.Addr().String() {
		t.Errorf("listener on %v, want %v", got.Addr(), ln.Addr())
	}
	if _, err := set.TakeListener(1); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("a file as a listener: %v", err)
	}
	if _, err := set.TakeConn(1); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("a file as a connection: %v", err)
	}
}

// Nothing that the sender lends is lost, closed or changed by a failed Send.
func TestSend_failures(t *testing.T) {
	closed, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tc := range []struct {
		name  string
		msg   string
		extra []syscall.Conn
		prep  func(t *testing.T, a, b *Conn)
		want  []error
	}{
		{name: "empty message", want: []error{ErrEmpty}},
		{name: "too many", msg: "x", extra: slices.Repeat([]syscall.Conn{FD(0)}, MaxFiles), want: []error{ErrTooMany}},
		{name: "closed file", msg: "x", extra: []syscall.Conn{closed}, want: []error{os.ErrClosed}},
		{name: "closed number", msg: "x", extra: []syscall.Conn{FD(99999)}, want: []error{os.ErrClosed, unix.EBADF}},
		{name: "negative number", msg: "x", extra: []syscall.Conn{FD(-1)}, want: []error{os.ErrClosed}},
		{name: "peer gone", msg: "x", prep: func(t *testing.T, a, b *Conn) { b.Close() }, want: []error{ErrPeerGone, unix.EPIPE}},
		{name: "closed", msg: "x", prep: func(t *testing.T, a, b *Conn) { a.Close() }, want: []error{net.ErrClosed}},
		{name: "deadline before", msg: "x", prep: func(t *testing.T, a, b *Conn) { a.SetDeadline(time.Unix(1, 0)) },
			want: []error{ErrTimeout, os.ErrDeadlineExceeded}},
		{name: "queue full", msg: "x", prep: func(t *testing.T, a, b *Conn) {
			fill(t, a)
			a.SetDeadline(time.Now().Add(20 * time.Millisecond))
		}, want: []error{ErrTimeout}},
		{name: "larger than the send buffer", msg: string(make([]byte, 16<<20)), want: []error{unix.EMSGSIZE}},
		{name: "refused", msg: "x", prep: func(t *testing.T, a, b *Conn) {
			if err := b.SetAcceptFiles(false); err != nil {
				t.Fatal(err)
			}
		}, want: []error{ErrRefused, unix.EPERM}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			audit(t)
			a, b := pair(t, Seqpacket)
			files, same := memfds(t, 1)
			if tc.prep != nil {
				tc.prep(t, a, b)
			}
			err := a.Send([]byte(tc.msg), append(tc.extra, files[0])...)
			for _, want := range tc.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			if !same(int(files[0].Fd()), 0) {
				t.Error("the sender lost its descriptor")
			}
		})
	}
}

// fill sends until the queue is full, and one message more, which its deadline
// ends: a deadline alone may pass before there was a try.
func fill(t testing.TB, c *Conn) {
	t.Helper()
	for {
		ok, err := c.TrySend(make([]byte, 1024))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			continue
		}
		c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		if err := c.Send(make([]byte, 1024)); errors.Is(err, ErrTimeout) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSend_itself(t *testing.T) {
	audit(t)
	a, _ := pair(t, Seqpacket)
	if err := a.Send([]byte("x"), a); !errors.Is(err, errSelf) {
		t.Fatalf("got %v; a Conn in its own queue is garbage that only the kernel can free", err)
	}
}

// A refusing receiver can begin to accept again.
func TestSetAcceptFiles(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	if err := errors.Join(b.SetAcceptFiles(false), b.SetAcceptFiles(true)); err != nil {
		t.Fatal(err)
	}
	files, _ := memfds(t, 1)
	if err := a.Send([]byte("x"), files[0]); err != nil {
		t.Fatal(err)
	}
}

// Descriptors that are queued when the receiver goes are dropped by the kernel;
// the sender still has its own.
func TestSend_receiverGoesBeforeRecv(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := a.Send([]byte("x"), w); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, _, err := a.Recv(make([]byte, 1)); !errors.Is(err, ErrPeerGone) {
		t.Fatalf("got %v", err)
	}
	if _, err := w.Write([]byte("mine")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if all, err := io.ReadAll(r); err != nil || string(all) != "mine" {
		t.Fatalf("%q, %v: a copy of the descriptor survived in the queue", all, err)
	}
}

// Lending leaves a descriptor's mode alone, in both processes.
func TestSend_keepsBlockingMode(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	r, w, err := os.Pipe() // non-blocking
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := a.Send([]byte("x"), r); err != nil {
		t.Fatal(err)
	}
	_, set, err := b.Recv(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	f, err := set.TakeFile(0, "r")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, file := range []*os.File{r, f} {
		if err := file.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Read(make([]byte, 1)); !errors.Is(err, ErrTimeout) {
			t.Fatalf("deadline: %v", err)
		}
	}
}

// Close of a lent file waits for the Send that holds it.
func TestSend_closeOfLentFileMeanwhile(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	fill(t, a)
	a.SetDeadline(time.Now().Add(time.Minute))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	sent, closed := make(chan error, 1), make(chan error, 1)
	go func() { sent <- a.Send([]byte("last"), r) }()
	for a.writes.state.Load() == free {
		time.Sleep(time.Millisecond)
	}
	go func() { closed <- r.Close() }()
	buf := make([]byte, 2048)
	for {
		n, set, err := b.Recv(buf)
		if err != nil {
			t.Fatal(err)
		}
		count := set.Len()
		set.Close()
		if string(buf[:n]) == "last" {
			if count != 1 {
				t.Fatal("the descriptor did not come")
			}
			break
		}
	}
	if err := errors.Join(<-sent, <-closed); err != nil {
		t.Fatal(err)
	}
}

func TestStream_partialWrites(t *testing.T) {
	audit(t)
	a, b := pair(t, Stream)
	files, same := memfds(t, 3)
	msg := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // larger than any socket buffer
	errc := make(chan error)
	go func() { errc <- a.Send(msg, conns(files)...) }()
	var got []byte
	count := 0
	buf := make([]byte, 10007)
	for len(got) < len(msg) {
		n, set, err := b.Recv(buf)
		if err != nil {
			t.Fatal(err)
		}
		if set.Len() > 0 && (len(got) != 0 || !same(set.Peek(2), 2)) {
			t.Fatal("descriptors with another byte than the first")
		}
		count += set.Len()
		set.Close()
		got = append(got, buf[:n]...)
	}
	if err := <-errc; err != nil || count != 3 || !bytes.Equal(got, msg) {
		t.Fatalf("%v, %d descriptors, equal %v", err, count, bytes.Equal(got, msg))
	}
	go func() { errc <- a.Send(msg) }()
	if _, _, err := b.Recv(buf[:1]); err != nil { // it has begun
		t.Fatal(err)
	}
	a.SetDeadline(time.Unix(1, 0))
	if err := <-errc; !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	a.SetDeadline(time.Time{})
	if err := a.Send([]byte("x")); err == nil {
		t.Error("a stream that was cut in mid-message sends on")
	}
}
