//go:build linux

package fdpass

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns two ends that are closed with the test.
func pair(t testing.TB, typ Type) (*Conn, *Conn) {
	t.Helper()
	a, b, err := Pair(typ)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	for _, c := range []*Conn{a, b} {
		c.SetDeadline(time.Now().Add(20 * time.Second)) // no test hangs
	}
	return a, b
}

// memfds returns n files, each with its own content, and the function that
// tells whether descriptor fd leads to file i.
func memfds(t testing.TB, n int) ([]*os.File, func(fd, i int) bool) {
	t.Helper()
	files := make([]*os.File, n)
	inodes := make([]uint64, n)
	for i := range files {
		fd, err := unix.MemfdCreate(fmt.Sprintf("file%d", i), unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = os.NewFile(uintptr(fd), fmt.Sprintf("file%d", i))
		t.Cleanup(func() { files[i].Close() })
		inodes[i] = inode(t, fd)
	}
	return files, func(fd, i int) bool { return inode(t, fd) == inodes[i] }
}

func inode(t testing.TB, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatalf("fstat %d: %v", fd, err)
	}
	return st.Ino
}

func conns(files []*os.File) []syscall.Conn {
	lent := make([]syscall.Conn, len(files))
	for i, f := range files {
		lent[i] = f
	}
	return lent
}

// rawSend sends as a peer that obeys nobody.
func rawSend(t testing.TB, c *Conn, msg []byte, fds ...int) {
	t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	err := c.control(func(fd int) error {
		m := unix.Msghdr{}
		if len(msg) > 0 {
			iov := unix.Iovec{Base: &msg[0]}
			iov.SetLen(len(msg))
			m.Iov = &iov
			m.SetIovlen(1)
		}
		if len(oob) > 0 {
			m.Control = &oob[0]
			m.SetControllen(len(oob))
		}
		return sendmsgRaw(fd, &m)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSendRecv(t *testing.T) {
	for _, typ := range []Type{Seqpacket, Stream} {
		for _, n := range []int{0, 1, 2, 3, 5, MaxFiles} {
			t.Run(fmt.Sprintf("%v %d", typ, n), func(t *testing.T) {
				audit(t)
				a, b := pair(t, typ)
				files, same := memfds(t, n)
				if err := a.Send([]byte("hello"), conns(files)...); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 100)
				got, set, err := b.Recv(buf)
				if err != nil {
					t.Fatal(err)
				}
				defer set.Close()
				if string(buf[:got]) != "hello" || set.Len() != n {
					t.Fatalf("got %q with %d descriptors, want hello with %d", buf[:got], set.Len(), n)
				}
				auditCloexec(t)
				for i := range n {
					if !same(set.Peek(i), i) {
						t.Errorf("descriptor %d is not the one that was lent", i)
					}
					if set.Peek(i) == int(files[i].Fd()) {
						t.Errorf("descriptor %d has the sender's number", i)
					}
					if _, err := files[i].Stat(); err != nil {
						t.Errorf("lent file %d: %v", i, err)
					}
				}
			})
		}
	}
}

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

// fill sends until the queue is full.
func fill(t testing.TB, c *Conn) {
	t.Helper()
	for {
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

func TestRecv_deadlines(t *testing.T) {
	for _, typ := range []Type{Seqpacket, Stream} {
		audit(t)
		a, b := pair(t, typ)
		recv := func(ctx context.Context) error {
			_, set, err := b.RecvContext(ctx, make([]byte, 10))
			if err == nil {
				set.Close()
			}
			return err
		}
		b.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if err := recv(context.Background()); !errors.Is(err, ErrTimeout) {
			t.Fatalf("deadline: %v", err)
		}
		b.SetReadDeadline(time.Time{})
		errc := make(chan error)
		go func() { errc <- recv(context.Background()) }()
		b.SetReadDeadline(time.Unix(1, 0)) // also one who waits already
		if err := <-errc; !errors.Is(err, ErrTimeout) {
			t.Fatalf("deadline while waiting: %v", err)
		}
		b.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithCancelCause(context.Background())
		go func() { errc <- recv(ctx) }()
		reason := errors.New("reason")
		cancel(reason)
		if err := <-errc; !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
			t.Fatalf("cancel: %v", err)
		}
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer stop()
		if err := recv(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) {
			t.Fatalf("context deadline: %v", err)
		}
		if err := a.Send([]byte("works on")); err != nil {
			t.Fatal(err)
		}
		if err := recv(context.Background()); err != nil {
			t.Fatalf("after a cancelled context: %v", err)
		}
		go func() { errc <- recv(context.Background()) }()
		go b.Close()
		if err := <-errc; !errors.Is(err, net.ErrClosed) {
			t.Fatalf("close: %v", err)
		}
		if err := b.Close(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("close again: %v", err)
		}
	}
}

// Waiting for one's turn ends with the context too.
func TestRecv_contextWhileAnotherReceives(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	first := make(chan error)
	go func() {
		_, set, err := b.Recv(make([]byte, 10))
		if err == nil {
			err = set.Close()
		}
		first <- err
	}()
	for len(b.reads.sem) == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := b.RecvContext(ctx, make([]byte, 10)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := a.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Fatalf("the other receiver was disturbed: %v", err)
	}
}

func TestRecv_truncated(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
		audit(t)
		a, b := pair(t, Seqpacket)
		files, _ := memfds(t, 3)
		if err := errors.Join(a.Send([]byte("too long"), conns(files)...), a.Send([]byte("next"))); err != nil {
			t.Fatal(err)
		}
		before := len(openFDs(t))
		if _, set, err := b.Recv(make([]byte, 4)); !errors.Is(err, ErrTruncated) || set != nil {
			t.Fatalf("got %v, %v", set, err)
		}
		if after := len(openFDs(t)); after != before {
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
		before := len(openFDs(t))
		_, set, err := b.Recv(make([]byte, 4))
		if !errors.Is(err, ErrTruncated) || errors.Is(err, ErrReceiverLimit) || set != nil {
			t.Fatalf("got %v, %v", set, err)
		}
		if after := len(openFDs(t)); after != before {
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
			auditCloexec(t)
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

// Another process that shares the channel's description may flip its mode.
func TestConn_blockingModeOfOthers(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	for _, c := range []*Conn{a, b} {
		if err := c.control(func(fd int) error { return unix.SetNonblock(fd, false) }); err != nil {
			t.Fatal(err)
		}
	}
	b.SetDeadline(time.Now().Add(10 * time.Millisecond))
	if _, _, err := b.Recv(make([]byte, 1)); !errors.Is(err, ErrTimeout) {
		t.Fatalf("got %v", err)
	}
	fill(t, a)
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
	a.SetDeadline(time.Now().Add(20 * time.Second))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	sent, closed := make(chan error, 1), make(chan error, 1)
	go func() { sent <- a.Send([]byte("last"), r) }()
	for len(a.writes.sem) == 0 {
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
	a.SetDeadline(time.Now().Add(10 * time.Millisecond))
	if err := a.Send(msg); !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	a.SetDeadline(time.Time{})
	if err := a.Send([]byte("x")); err == nil {
		t.Error("a stream that was cut in mid-message sends on")
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

func TestNewConn_refuses(t *testing.T) {
	audit(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := NewConn(r); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("pipe: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	tcp, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if _, err := NewConn(tcp.(*net.TCPConn)); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("TCP: %v", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	blocking := os.NewFile(uintptr(fds[0]), "blocking")
	defer blocking.Close()
	if _, err := NewConn(blocking); !errors.Is(err, os.ErrNoDeadline) {
		t.Errorf("blocking socket: %v", err)
	}
}

// A Send or Recv in the steady state allocates little, whatever the count.
func TestAllocations(t *testing.T) {
	a, b := pair(t, Seqpacket)
	fds := slices.Repeat([]int{0}, 64)
	msg, buf := make([]byte, 128), make([]byte, 256)
	got := testing.AllocsPerRun(200, func() {
		if err := a.SendFDs(msg, fds...); err != nil {
			t.Fatal(err)
		}
		_, set, err := b.Recv(buf)
		if err != nil {
			t.Fatal(err)
		}
		set.Close()
	})
	if got > 10 {
		t.Errorf("%v allocations for 64 descriptors", got)
	}
}
