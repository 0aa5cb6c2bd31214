//go:build linux || darwin || freebsd

package fdpass

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bare makes a Conn of a descriptor that the runtime's poller does not know, and
// takes ownership of it unless it fails: for programs that wait for many
// descriptors in a loop of their own, which call [Conn.TryRecv] when theirs is
// ready. The descriptor is set to non-blocking mode and close-on-exec.
//
// The other methods work on it, too. Who waits in one of them has a thread for
// himself; that is also for a Conn of many messages on which nobody may be
// woken for nothing: the runtime's poller asks for the moment at which the socket
// can be written, which comes each time when the peer has received.
func Bare(fd int) (*Conn, error) {
	if _, err := socketType(fd); err != nil {
		return nil, fmt.Errorf("fdpass: descriptor %d: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("fdpass: descriptor %d: %w", fd, err)
	}
	b := &bareSocket{fd: fd}
	b.left.L = &b.mu
	for _, side := range []*bareSide{&b.read, &b.write} {
		var err error
		if side.wake, err = newWaker(); err != nil {
			b.read.wake.close()
			return nil, fmt.Errorf("fdpass: descriptor %d: %w", fd, err)
		}
	}
	c, err := NewConn(b)
	if err != nil {
		b.read.wake.close()
		b.write.wake.close()
	}
	return c, err
}

// Detach gives the descriptor to the caller, outside of the runtime's poller and
// under another number, and closes the Conn: who waits on it is woken with
// net.ErrClosed. What is queued stays queued. On an error the Conn is as it was.
func (c *Conn) Detach() (int, error) {
	fd := -1
	err := c.control(func(n int) (err error) {
		fd, err = unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("fdpass: detach: %w", err)
	}
	if err := c.Close(); err != nil { // another goroutine has closed it meanwhile
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// FD lends the descriptor's number, to wait until it is readable. Reading or
// writing through it loses messages and descriptors; after Close it may be
// another file's.
func (c *Conn) FD() int { return c.fd }

// TryRecv is [Conn.RecvInto] that waits for nothing: ok is false when no message
// is there, or another goroutine receives. An error is of a message, or of the
// end, as of Recv; descriptors that came with it are closed by others if
// their closes could wait.
func (c *Conn) TryRecv(buf []byte, files *Files) (n int, ok bool, err error) {
	files.Close()
	files.fds = files.array[:0]
	if len(buf) == 0 {
		return 0, false, fmt.Errorf("fdpass: recv: no room for a byte: %w", ErrEmpty)
	}
	if !c.reads.state.CompareAndSwap(free, quick) {
		return 0, false, nil
	}
	defer c.reads.release()
	if c.closed.Load() {
		return 0, false, fmt.Errorf("fdpass: recv: %w", net.ErrClosed)
	}
	s := &c.in
	s.buf = buf
	there := s.once(uintptr(c.fd))
	s.buf = nil
	if !there {
		return 0, false, nil
	}
	c.reads.hold() // what follows may ask the socket by its RawConn
	if err = c.outcome(files, len(buf)); err != nil {
		files.Abandon()
		files.fds = nil
		return 0, true, fmt.Errorf("fdpass: recv: %w", err)
	}
	return s.n, true, nil
}

// TrySend is [Conn.SendFDs] on SOCK_SEQPACKET that waits for nothing: ok is false,
// and nothing was sent, when the receiver's queue is full, too many descriptors
// are in flight, or another goroutine sends.
func (c *Conn) TrySend(msg []byte, fds ...int) (ok bool, err error) {
	switch {
	case c.typ != Seqpacket:
		return false, fmt.Errorf("fdpass: try to send: a part could be left over: %w", unix.EPROTOTYPE)
	case len(msg) == 0:
		return false, fmt.Errorf("fdpass: send: %w", ErrEmpty)
	case len(fds) > MaxFiles:
		return false, fmt.Errorf("fdpass: send: %d descriptors, at most %d: %w", len(fds), MaxFiles, ErrTooMany)
	}
	if !c.writes.state.CompareAndSwap(free, quick) {
		return false, nil
	}
	defer c.writes.release()
	if c.closed.Load() {
		return false, fmt.Errorf("fdpass: send: %w", net.ErrClosed)
	}
	s := &c.out
	s.msg, s.fds = msg, fds
	s.rights(fds)
	there := s.once(uintptr(c.fd))
	err = s.err
	s.msg, s.fds, s.oob = nil, nil, nil
	switch {
	case !there, err == unix.ETOOMANYREFS:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("fdpass: send: %w", sendError(err))
	}
	return true, nil
}

// bareSocket is a Socket that waits in poll(2). One goroutine at a time waits on
// each side, as the turns of a Conn have it.
type bareSocket struct {
	fd int

	mu          sync.Mutex
	left        sync.Cond // on mu: nobody uses the number
	users       int       // guarded by mu
	closed      bool      // guarded by mu
	read, write bareSide
}

type bareSide struct {
	wake     waker     // ends a wait; immutable
	deadline time.Time // guarded by mu of the socket
}

// SyscallConn implements syscall.Conn.
func (b *bareSocket) SyscallConn() (syscall.RawConn, error) { return b, nil }

// Close waits until nobody uses the number, and closes it.
func (b *bareSocket) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return net.ErrClosed
	}
	b.closed = true
	b.read.wake.wake()
	b.write.wake.wake()
	for b.users > 0 {
		b.left.Wait()
	}
	b.read.wake.close()
	b.write.wake.close()
	return os.NewSyscallError("close", unix.Close(b.fd))
}

// SetDeadline implements Socket.
func (b *bareSocket) SetDeadline(t time.Time) error { return b.setDeadlines(t, &b.read, &b.write) }

// SetReadDeadline implements Socket.
func (b *bareSocket) SetReadDeadline(t time.Time) error { return b.setDeadlines(t, &b.read) }

// SetWriteDeadline implements Socket.
func (b *bareSocket) SetWriteDeadline(t time.Time) error { return b.setDeadlines(t, &b.write) }

func (b *bareSocket) setDeadlines(t time.Time, sides ...*bareSide) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return net.ErrClosed
	}
	for _, side := range sides {
		side.deadline = t
		side.wake.wake()
	}
	return nil
}

// enter counts a user of the number.
func (b *bareSocket) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return net.ErrClosed
	}
	b.users++
	return nil
}

func (b *bareSocket) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users--; b.users == 0 {
		b.left.Broadcast()
	}
}

// Control implements syscall.RawConn.
func (b *bareSocket) Control(fn func(fd uintptr)) error {
	if err := b.enter(); err != nil {
		return err
	}
	defer b.leave()
	fn(uintptr(b.fd))
	return nil
}

// Read implements syscall.RawConn.
func (b *bareSocket) Read(fn func(fd uintptr) bool) error { return b.wait(unix.POLLIN, &b.read, fn) }

// Write implements syscall.RawConn.
func (b *bareSocket) Write(fn func(fd uintptr) bool) error { return b.wait(unix.POLLOUT, &b.write, fn) }

func (b *bareSocket) wait(events int16, side *bareSide, fn func(fd uintptr) bool) error {
	if err := b.enter(); err != nil {
		return err
	}
	defer b.leave()
	for {
		b.mu.Lock()
		closed, at := b.closed, side.deadline
		b.mu.Unlock()
		ms := -1
		if !at.IsZero() {
			ms = int(min((time.Until(at)+time.Millisecond-1)/time.Millisecond, 1<<30))
		}
		switch {
		case closed:
			return net.ErrClosed
		case !at.IsZero() && ms <= 0:
			return os.ErrDeadlineExceeded
		case fn(uintptr(b.fd)):
			return nil
		}
		p := []unix.PollFd{{Fd: int32(b.fd), Events: events}, {Fd: int32(side.wake.waits()), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, ms); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if p[1].Revents != 0 {
			side.wake.drain()
		}
	}
}
