//go:build linux || darwin || freebsd

package fdpass

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	_ io.Closer    = (*Conn)(nil)
	_ syscall.Conn = (*Conn)(nil)
)

// Limits of one message.
const (
	// MaxFiles is how many descriptors one Send may lend. Linux takes 253
	// (SCM_MAX_FD), some C libraries one less; half of that leaves room.
	MaxFiles = 128
	// kernelMaxFiles is how many descriptors a peer may send; the control
	// buffer always has room for all of them.
	kernelMaxFiles = 253
)

// Socket is a connected Unix socket in non-blocking mode, such as
// *net.UnixConn, or *os.File from os.NewFile.
type Socket interface {
	syscall.Conn
	io.Closer
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Conn is one end of a connected Unix socket that carries messages with
// descriptors. All methods may be called from several goroutines; one sends and
// one receives at a time, the others wait.
type Conn struct {
	sock   Socket
	raw    syscall.RawConn // immutable after New
	fd     int             // immutable after New; used by number in a quick turn alone
	typ    Type            // immutable after New
	closed atomic.Bool

	reads  turn
	writes turn
	in     recvState // owned by whoever has the reads turn
	out    sendState // owned by whoever has the writes turn
}

// NewConn makes a Conn of s and takes ownership of it. On an error the caller
// still owns s. Nothing may read from or write to s beside the Conn.
func NewConn(s Socket) (*Conn, error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("fdpass: new conn: %w", err)
	}
	number := -1
	var typ Type
	var opErr error
	err = raw.Control(func(fd uintptr) {
		number = int(fd)
		typ, opErr = socketType(number)
	})
	if err != nil {
		return nil, fmt.Errorf("fdpass: new conn: %w", err)
	}
	if opErr != nil {
		return nil, fmt.Errorf("fdpass: new conn: %w", opErr)
	}
	if err := s.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("fdpass: new conn: the socket must be in non-blocking mode: %w", err)
	}
	c := &Conn{sock: s, raw: raw, fd: number, typ: typ}
	c.reads.init(s.SetReadDeadline)
	c.writes.init(s.SetWriteDeadline)
	c.in.init()
	c.out.init()
	return c, nil
}

// Inherited makes a Conn of a descriptor that this process was started with,
// and takes ownership of the number: no one else may use it. It is set to
// non-blocking mode and close-on-exec.
func Inherited(fd int) (*Conn, error) {
	if _, err := socketType(fd); err != nil {
		return nil, fmt.Errorf("fdpass: inherited descriptor %d: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("fdpass: inherited descriptor %d: %w", fd, err)
	}
	return NewConn(os.NewFile(uintptr(fd), "fdpass"))
}

// socketType checks that fd is a Unix socket of a type that this package knows.
func socketType(fd int) (Type, error) {
	sotype, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return 0, err
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	if _, ok := addr.(*unix.SockaddrUnix); !ok {
		return 0, fmt.Errorf("not a Unix socket: %w", unix.EAFNOSUPPORT)
	}
	switch sotype {
	case unix.SOCK_SEQPACKET:
		return Seqpacket, nil
	case unix.SOCK_STREAM:
		return Stream, nil
	}
	return 0, fmt.Errorf("neither SOCK_SEQPACKET nor SOCK_STREAM: %w", unix.EPROTOTYPE)
}

// Type returns the type of the socket.
func (c *Conn) Type() Type { return c.typ }

// SyscallConn lends the descriptor, for socket options. Reading or writing
// through it loses messages and descriptors.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// PeerCred returns who the other end was when the connection was made.
func (c *Conn) PeerCred() (Cred, error) { return PeerCred(c) }

// PeerPidfd returns a new descriptor for the process at the other end, which
// the caller owns. It becomes readable when that process ends, and cannot come
// to mean another one. Linux 6.5; elsewhere the error matches
// errors.ErrUnsupported.
func (c *Conn) PeerPidfd() (int, error) {
	pidfd := -1
	err := c.control(func(fd int) (err error) {
		pidfd, err = peerPidfd(fd)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("fdpass: peer pidfd: %w", err)
	}
	return pidfd, nil
}

// SetAcceptFiles turns the reception of descriptors off or on again. While it
// is off the peer's Send fails with ErrRefused, so that a peer which has not
// proved itself cannot fill this process's table. Linux 6.16; elsewhere the
// error matches errors.ErrUnsupported.
func (c *Conn) SetAcceptFiles(accept bool) error {
	if err := c.control(func(fd int) error { return setPassRights(fd, accept) }); err != nil {
		return fmt.Errorf("fdpass: accept files: %w", err)
	}
	return nil
}

func (c *Conn) control(fn func(fd int) error) error {
	var opErr error
	if err := c.raw.Control(func(fd uintptr) { opErr = fn(int(fd)) }); err != nil {
		return c.waitError(err)
	}
	return opErr
}

// SetDeadline ends waiting Sends and Recvs at t, also those that wait already;
// zero means never.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline is SetDeadline for Recv alone.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.deadlineError(c.reads.setDeadline(t)) }

// SetWriteDeadline is SetDeadline for Send alone.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.deadlineError(c.writes.setDeadline(t)) }

func (c *Conn) deadlineError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("fdpass: set deadline: %w", c.waitError(err))
}

// Close closes this end and wakes whoever waits on it, with net.ErrClosed.
// Descriptors that are queued and not received are dropped by the kernel.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return fmt.Errorf("fdpass: close: %w", net.ErrClosed)
	}
	c.reads.settle()
	c.writes.settle()
	if err := c.sock.Close(); err != nil {
		return fmt.Errorf("fdpass: close: %w", err)
	}
	return nil
}

// waitError translates what the poller says: it knows of deadlines and of Close,
// with an error of its own for the latter on *os.File.
func (c *Conn) waitError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrTimeout
	}
	if c.closed.Load() || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}
