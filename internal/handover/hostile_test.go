//go:build linux

package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass"
	"ndferry/fdpass/fdtest"
)

// rawSend sends what a peer sends that obeys nobody.
func rawSend(t *testing.T, ch *Channel, msg []byte, fds ...int) {
	t.Helper()
	raw, err := ch.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.Sendmsg(int(fd), msg, oob, nil, unix.MSG_NOSIGNAL) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// serveHello answers each connection with hello and ends it.
func (e *ends) serveHello() {
	e.run(func(c *Conn) error {
		s, err := c.Socket()
		if err != nil {
			return err
		}
		io.WriteString(s, "hello")
		e.worker.Words().Closed()
		return s.Close()
	})
}

// checkServes offers an honest connection and sees it served.
func (e *ends) checkServes() {
	e.t.Helper()
	theirs, ours, cookie := client(e.t)
	theirs.SetDeadline(time.Now().Add(time.Minute))
	o := e.offer(Meta{Cookie: cookie, Accepted: time.Now().UnixNano()}, ours)
	if b, err := io.ReadAll(theirs); err != nil || string(b) != "hello" {
		e.t.Errorf("an honest connection: %q, %v", b, err)
	}
	ours.Close()
	theirs.Close()
	if s := e.words.State(o.Slot, o.Sequence); s != Touched {
		e.t.Errorf("an honest connection is %v", s)
	}
}

// fdOf returns the number of a file that stays open for the test.
func fdOf(t *testing.T, c syscall.Conn) (fd int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(n uintptr) { fd = int(n) })
	return fd
}

func must(t *testing.T, fd int, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// TestHostileMaster_kinds offers a worker descriptors that are not the connection: each is refused, nothing stays open, the word says
// who has it, and the next connection is served although a close may be waiting.
func TestHostileMaster_kinds(t *testing.T) { bothWays(t, hostileMasterKinds) }

func hostileMasterKinds(t *testing.T) {
	kinds := map[string]func(t *testing.T) int{
		"pipe": func(t *testing.T) int {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close(); w.Close() })
			return fdOf(t, r)
		},
		"directory": func(t *testing.T) int {
			fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return must(t, fd, err)
		},
		"path handle": func(t *testing.T) int {
			fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
			return must(t, fd, err)
		},
		"epoll": func(t *testing.T) int {
			fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
			return must(t, fd, err)
		},
		"listener": func(t *testing.T) int {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			return fdOf(t, ln.(*net.TCPListener))
		},
		"datagrams": func(t *testing.T) int {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			return must(t, fd, err)
		},
		"raw channel": func(t *testing.T) int { // a socket that could carry descriptors of its own
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			return must(t, fd, err)
		},
		"file that hangs": func(t *testing.T) int { return fdtest.HungFile(t).FD() },
	}
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			e := pair(t, WorkerConfig{})
			e.serveHello()
			fd := open(t)
			cookie, _ := Cookie(fd) // of what is a socket at all it is right
			o := e.offer(Meta{Cookie: cookie}, fdpass.FD(fd))
			if r := e.refusal(); r.Sequence != o.Sequence || r.Reason != ReasonMetadata {
				t.Errorf("refused with %+v", r)
			}
			if s := e.words.State(o.Slot, o.Sequence); s != Refused {
				t.Errorf("the word is %v", s)
			}
			e.checkServes()
		})
	}
}

// TestHostileMaster_counts sends an OFFER of one connection with other numbers of descriptors, among them ones whose close hangs: the
// channel ends, all are closed, the worker does not wait.
func TestHostileMaster_counts(t *testing.T) { bothWays(t, hostileMasterCounts) }

func hostileMasterCounts(t *testing.T) {
	for _, n := range []int{0, 2, 253} {
		for _, says := range []int{1, n} { // the header may be honest about it
			for _, hangs := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d, said %d, hangs %v", n, says, hangs), func(t *testing.T) {
					e := pair(t, WorkerConfig{})
					e.run(func(*Conn) error { t.Error("served"); return nil })
					_, ours, cookie := client(t)
					fds := slices.Repeat([]int{fdOf(t, ours)}, n)
					var hung *fdtest.Hung
					if hangs && n > 0 {
						hung = fdtest.HungFile(t)
						fds[n-1] = hung.FD()
					}
					e.words.Offer(1, 1)
					body := AppendOffer(nil, &Offer{Sequence: 1, Slot: 1, Meta: Meta{Cookie: cookie}})
					frame := AppendFrame(nil, Frame{Version: 1, Kind: KindOffer, Critical: true, Files: says, Generation: 5, Body: body})
					rawSend(t, e.master, frame, fds...)
					if err := <-e.ended; !errors.Is(err, ErrFiles) {
						t.Errorf("the worker ended with %v", err)
					}
					if s := e.words.State(1, 1); s != Offered {
						t.Errorf("the word is %v: the master cannot offer the connection elsewhere", s)
					}
					if hung != nil && !hung.AwaitClose(1) {
						t.Error("the file that hangs is not being closed")
					}
				})
			}
		}
	}
}

// TestHostileMaster_frames sends what is no frame of this channel, each with a descriptor that hangs: the channel ends without waiting.
func TestHostileMaster_frames(t *testing.T) { bothWays(t, hostileMasterFrames) }

func hostileMasterFrames(t *testing.T) {
	one := AppendOffer(nil, &Offer{Sequence: 1})
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"not a frame":           {[]byte("hello"), ErrFrame},
		"one byte":              {[]byte{0}, ErrFrame},
		"another version":       {AppendFrame(nil, Frame{Version: 2, Kind: KindOffer, Files: 1, Generation: 5, Body: one}), ErrVersion},
		"version 0":             {AppendFrame(nil, Frame{Version: 0, Kind: KindOffer, Files: 1, Generation: 5, Body: one}), ErrVersion},
		"an earlier generation": {AppendFrame(nil, Frame{Version: 1, Kind: KindOffer, Files: 1, Generation: 4, Body: one}), ErrGeneration},
		"a later generation":    {AppendFrame(nil, Frame{Version: 1, Kind: KindOffer, Files: 1, Generation: 6, Body: one}), ErrGeneration},
		"a file with DRAIN":     {AppendFrame(nil, Frame{Version: 1, Kind: KindDrain, Files: 1, Generation: 5, Body: make([]byte, 4)}), ErrFiles},
		"unknown and critical":  {AppendFrame(nil, Frame{Version: 1, Kind: 77, Critical: true, Files: 1, Generation: 5}), ErrUnsupported},
		"more than a frame has": {AppendFrame(nil, Frame{Version: 1, Kind: KindOffer, Files: 1, Generation: 5, Body: make([]byte, MaxFrame-headerSize+1)}), ErrFrame},
		"too many connections":  {AppendFrame(nil, Frame{Version: 1, Kind: KindOffer, Files: 1, Generation: 5, Body: many(MaxOffers + 1)}), ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			e := pair(t, WorkerConfig{})
			e.run(func(*Conn) error { t.Error("served"); return nil })
			hung := fdtest.HungFile(t)
			rawSend(t, e.master, c.frame, hung.FD())
			if err := <-e.ended; !errors.Is(err, c.want) {
				t.Errorf("the worker ended with %v, want %v", err, c.want)
			}
			if !hung.AwaitClose(1) {
				t.Error("the file that hangs is not being closed")
			}
		})
	}
}

func many(n int) (body []byte) {
	for i := range n {
		body = AppendOffer(body, &Offer{Sequence: uint64(i + 1), Slot: uint32(i)})
	}
	return body
}

// TestHostileMaster_truncated sends frames that do not arrive whole: the worker says that something is lost and goes on.
func TestHostileMaster_truncated(t *testing.T) { bothWays(t, hostileMasterTruncated) }

func hostileMasterTruncated(t *testing.T) {
	t.Run("larger than any frame", func(t *testing.T) {
		e := pair(t, WorkerConfig{})
		e.serveHello()
		hung := fdtest.HungFile(t)
		rawSend(t, e.master, make([]byte, MaxFrame+100), hung.FD())
		if r := e.refusal(); r.Reason != ReasonTruncated || r.Sequence != 0 {
			t.Errorf("refused with %+v", r)
		}
		e.checkServes()
	})
	t.Run("no room for a descriptor", func(t *testing.T) {
		e := pair(t, WorkerConfig{})
		e.serveHello()
		_, ours, cookie := client(t)
		release := useUpFiles(t)
		o := e.offer(Meta{Cookie: cookie}, ours)
		r := e.refusal()
		release()
		if r.Reason != ReasonTruncated || r.Sequence != 0 {
			t.Errorf("refused with %+v", r)
		}
		if !e.words.Revoke(o.Slot, o.Sequence) {
			t.Errorf("the word is %v: the master cannot offer the connection elsewhere", e.words.State(o.Slot, o.Sequence))
		}
		e.checkServes()
	})
}

// useUpFiles leaves this process no room for a descriptor.
func useUpFiles(t *testing.T) (release func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	next, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0) // the lowest that is free
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	low := old
	low.Cur = uint64(next)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChannel_anotherUser: a channel that another user made is refused, though he passes an end of it.
func TestChannel_anotherUser(t *testing.T) {
	fdtest.Audit(t)
	type made struct {
		fds [2]int
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // the user belongs to the thread, which ends with the goroutine
		var m made
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 12345, 12345, 12345); errno != 0 {
			m.err = errno
		} else {
			m.fds, m.err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		}
		done <- m
	}()
	m := <-done
	if m.err != nil {
		t.Fatalf("this test needs root: %v", m.err)
	}
	defer unix.Close(m.fds[1])
	c, err := fdpass.Inherited(m.fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := NewChannel(c); !errors.Is(err, fdpass.ErrPeerDenied) {
		t.Errorf("got %v", err)
	}
}

// TestChannel_hasNoName: nobody can connect to a channel, because it has no address.
func TestChannel_hasNoName(t *testing.T) {
	e := pair(t, WorkerConfig{})
	for _, ch := range []*Channel{e.master, e.worker.ch} {
		raw, _ := ch.conn.SyscallConn()
		raw.Control(func(fd uintptr) {
			sa, err := unix.Getsockname(int(fd))
			if u, ok := sa.(*unix.SockaddrUnix); err != nil || !ok || strings.Trim(u.Name, "@\x00") != "" {
				t.Errorf("address %+v, %v", sa, err)
			}
		})
	}
}
