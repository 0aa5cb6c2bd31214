//go:build linux

package fdpass

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
)

// pair returns two ends that are closed with the test.
func pair(t testing.TB, typ Type) (*Conn, *Conn) {
	t.Helper()
	a, b := freePair(t, typ)
	for _, c := range []*Conn{a, b} {
		c.SetDeadline(time.Now().Add(time.Minute)) // no test hangs
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
				fdtest.Cloexec(t)
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
	for b.reads.state.Load() == free {
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
	dgram, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dgram[1])
	// It would not tell the peer's death.
	if _, err := ownConn(dgram[0]); !errors.Is(err, unix.EPROTOTYPE) {
		t.Errorf("datagrams: %v", err)
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

// A Send or Recv in the steady state allocates little, whatever the count, and
// nothing for one descriptor and a set that is used again.
func TestAllocations(t *testing.T) {
	a, b := freePair(t, Seqpacket)
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
	var set Files
	got = testing.AllocsPerRun(200, func() {
		if err := a.SendFDs(msg, fds[:1]...); err != nil {
			t.Fatal(err)
		}
		if _, err := b.RecvInto(buf, &set); err != nil {
			t.Fatal(err)
		}
	})
	set.Close()
	if got != 0 {
		t.Errorf("%v allocations for one descriptor", got)
	}
}

// Numbers of 1,024 and above work like others, for waiting and asking too.
func TestConn_highNumbers(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	high := -1
	err := b.control(func(fd int) (err error) {
		high, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 1500)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ownConn(high)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.Close()
	files, same := memfds(t, 1)
	done := make(chan error, 1)
	go func() { done <- a.Send([]byte("x"), files[0]) }()
	_, set, err := c.Recv(make([]byte, 1))
	if err := errors.Join(err, <-done); err != nil || !same(set.Peek(0), 0) {
		t.Fatal(err)
	}
	set.Close()
	rawSend(t, a, nil) // asks poll whether that was the end
	if _, _, err := c.Recv(make([]byte, 1)); !errors.Is(err, ErrEmpty) {
		t.Fatal(err)
	}
}

// A full queue holds a sender no longer than its context.
func TestSend_contextEndsTheWait(t *testing.T) {
	audit(t)
	a, _ := pair(t, Seqpacket)
	fill(t, a)
	a.SetDeadline(time.Now().Add(time.Minute))
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan struct{})
	go func() {
		for a.writes.state.Load() == free {
			time.Sleep(time.Millisecond)
		}
		cancel()
		close(cancelled)
	}()
	if err := a.SendContext(ctx, make([]byte, 1024)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	<-cancelled
}

// Many goroutines share both ends; every message arrives whole, once.
func TestConn_manyGoroutines(t *testing.T) {
	audit(t)
	a, b := pair(t, Seqpacket)
	files, _ := memfds(t, 1)
	const workers, each = 8, 200
	var got [workers * each]atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range each {
				if err := a.SendContext(ctx, fmt.Appendf(nil, "%d", w*each+i), files[0]); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			buf := make([]byte, 20)
			for range each {
				n, set, err := b.Recv(buf)
				if err != nil {
					t.Error(err)
					return
				}
				if err := set.Expect(1); err != nil {
					t.Error(err)
				}
				set.Close()
				i, _ := strconv.Atoi(string(buf[:n]))
				got[i].Add(1)
			}
		})
	}
	wg.Wait()
	for i := range got {
		if n := got[i].Load(); n != 1 {
			t.Fatalf("message %d arrived %d times", i, n)
		}
	}
}
