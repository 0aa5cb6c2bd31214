//go:build linux || darwin || freebsd

package fdpass

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Back-off while too many descriptors are in flight: the kernel tells nobody
// when there is room again.
const (
	firstBackoff = 500 * time.Microsecond
	maxBackoff   = 20 * time.Millisecond
)

// FD is a plain descriptor number to lend. Its owner must keep it open until
// Send returns.
type FD int

// SyscallConn returns a RawConn that knows Control alone.
func (fd FD) SyscallConn() (syscall.RawConn, error) { return plainFD(fd), nil }

type plainFD int

func (fd plainFD) Control(fn func(uintptr)) error { fn(uintptr(fd)); return nil }
func (plainFD) Read(func(uintptr) bool) error     { return errors.ErrUnsupported }
func (plainFD) Write(func(uintptr) bool) error    { return errors.ErrUnsupported }

// Send sends msg, of at least one byte, and lends the descriptors of files
// with it: those are anything with a SyscallConn, such as *os.File, *net.TCPConn
// or FD, at most MaxFiles. They stay open until Send returns (their Close
// waits), stay in their mode, and belong to the caller afterwards, whatever
// happened. It waits while the receiver's queue is full or too many descriptors
// are in flight.
//
// On SOCK_SEQPACKET all of msg is sent or nothing. On SOCK_STREAM the
// descriptors go with the first byte, and after a failure in mid-message the
// Conn refuses to send.
//
// Errors to test for: ErrTimeout (with ErrInFlight in the chain if that was what
// it waited for), ErrPeerGone, ErrTooMany, ErrEmpty, ErrRefused, net.ErrClosed,
// and os.ErrClosed for a lent descriptor that is not open.
func (c *Conn) Send(msg []byte, files ...syscall.Conn) error {
	return c.SendContext(context.Background(), msg, files...)
}

// SendContext is Send that ends with ctx's error when ctx does. A deadline that
// was set on the Conn holds as well.
func (c *Conn) SendContext(ctx context.Context, msg []byte, files ...syscall.Conn) error {
	if len(files) > MaxFiles {
		return fmt.Errorf("fdpass: send: %d descriptors, at most %d: %w", len(files), MaxFiles, ErrTooMany)
	}
	var array [8]int
	fds := array[:0]
	err := borrow(files, fds, func(fds []int) error { return c.send(ctx, msg, fds) })
	if err != nil {
		return fmt.Errorf("fdpass: send: %w", err)
	}
	return nil
}

// SendFDs is Send for plain descriptor numbers, which the caller keeps open
// until it returns.
func (c *Conn) SendFDs(msg []byte, fds ...int) error {
	if len(fds) > MaxFiles {
		return fmt.Errorf("fdpass: send: %d descriptors, at most %d: %w", len(fds), MaxFiles, ErrTooMany)
	}
	if err := c.send(context.Background(), msg, fds); err != nil {
		return fmt.Errorf("fdpass: send: %w", err)
	}
	return nil
}

// borrow calls do with the numbers of files, all held open meanwhile.
func borrow(files []syscall.Conn, fds []int, do func([]int) error) error {
	if len(files) == 0 {
		return do(fds)
	}
	if fd, ok := files[0].(FD); ok {
		return borrow(files[1:], append(fds, int(fd)), do)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return lentError(len(fds), err)
	}
	var opErr error
	err = raw.Control(func(fd uintptr) { opErr = borrow(files[1:], append(fds, int(fd)), do) })
	if err != nil {
		return lentError(len(fds), err)
	}
	return opErr
}

func lentError(i int, err error) error {
	return fmt.Errorf("lent descriptor with index %d: %w: %w", i, os.ErrClosed, err)
}

// sendState is what one sendmsg needs and gives; it is kept so that a Send
// allocates nothing.
type sendState struct {
	sys    sysMsg
	try    func(fd uintptr) bool
	msg    []byte
	fds    []int
	oob    []byte // descriptors not yet sent, in oobBuf
	n      int
	err    error
	broken error // a stream message was cut

	oobBuf []byte
}

var errSelf = errors.New("a Conn cannot be sent through itself")

func (s *sendState) init() {
	s.oobBuf = make([]byte, unix.CmsgSpace(4*MaxFiles))
	s.try = s.once
}

// once sends what is left, or a part of it, to fd; false means that the queue is
// full.
func (s *sendState) once(fd uintptr) bool {
	if slices.Contains(s.fds, int(fd)) {
		s.n, s.err = 0, errSelf
		return true
	}
	for {
		s.n, s.err = s.sys.sendmsg(int(fd), s.msg, s.oob)
		if s.err != unix.EINTR {
			return s.err != unix.EAGAIN
		}
	}
}

// rights lays out one SCM_RIGHTS message; cmsg(3), unix(7).
func (s *sendState) rights(fds []int) {
	if s.oob = nil; len(fds) == 0 {
		return
	}
	s.oob = s.oobBuf[:unix.CmsgSpace(4*len(fds))]
	clear(s.oob)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&s.oob[0]))
	h.Level = unix.SOL_SOCKET
	h.Type = unix.SCM_RIGHTS
	h.SetLen(unix.CmsgLen(4 * len(fds)))
	data := s.oob[unix.CmsgLen(0):]
	for i, fd := range fds {
		binary.NativeEndian.PutUint32(data[4*i:], uint32(fd))
	}
}

func (c *Conn) send(ctx context.Context, msg []byte, fds []int) error {
	if len(msg) == 0 {
		return ErrEmpty
	}
	s := &c.out
	if ctx.Err() == nil && c.writes.quickly() {
		if !c.closed.Load() && s.broken == nil {
			s.msg, s.fds = msg, fds
			s.rights(fds)
			ok := s.once(uintptr(c.fd))
			if ok && s.err == nil && s.n == len(msg) {
				s.msg, s.fds, s.oob = nil, nil, nil
				c.writes.release()
				return nil
			}
			c.writes.hold()
			defer c.writes.release()
			return c.sendWatched(ctx, ok)
		}
		c.writes.hold()
	} else if err := c.writes.take(ctx); err != nil {
		return err
	}
	defer c.writes.release()
	return c.sendWait(ctx, msg, fds)
}

// sendWait sends with the poller, which waits. The caller holds the turn.
func (c *Conn) sendWait(ctx context.Context, msg []byte, fds []int) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	s := &c.out
	if s.broken != nil {
		return fmt.Errorf("an earlier message was cut: %w", s.broken)
	}
	s.msg, s.fds = msg, fds
	s.rights(fds)
	return c.sendWatched(ctx, false)
}

// sendWatched is sendRest that ends with ctx.
func (c *Conn) sendWatched(ctx context.Context, tried bool) (err error) {
	if ctx.Done() != nil {
		done := c.writes.watch(ctx)
		defer func() { err = done(err) }()
	}
	return c.sendRest(ctx, tried)
}

// sendRest sends what c.out holds. tried says that once has been called and
// c.out holds its outcome.
func (c *Conn) sendRest(ctx context.Context, tried bool) error {
	s := &c.out
	whole := len(s.msg)
	err := c.sendAll(ctx, tried)
	if err != nil && len(s.msg) < whole {
		s.broken = err
	}
	s.msg, s.fds, s.oob = nil, nil, nil
	return err
}

// sendAll sends what c.out holds, in one piece on SOCK_SEQPACKET.
func (c *Conn) sendAll(ctx context.Context, tried bool) error {
	s := &c.out
	var waited error
	backoff := firstBackoff
	for ; ; tried = false {
		if !tried {
			if err := c.raw.Write(s.try); err != nil {
				err = c.waitError(err)
				if waited != nil {
					err = fmt.Errorf("%w: %w: %w", err, ErrInFlight, waited)
				}
				return err
			}
		}
		if s.err == nil {
			s.msg = s.msg[s.n:]
			if len(s.msg) == 0 {
				return nil
			}
			s.oob, s.fds, waited = nil, nil, nil
			continue
		}
		if s.err != unix.ETOOMANYREFS {
			return sendError(s.err)
		}
		waited = s.err
		c.pause(ctx, backoff)
		backoff = min(2*backoff, maxBackoff)
	}
}

// pause waits for d, but not past the deadline.
func (c *Conn) pause(ctx context.Context, d time.Duration) {
	if at := c.writes.deadline(); !at.IsZero() {
		d = min(d, time.Until(at))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func sendError(err error) error {
	switch err {
	case unix.EPIPE, unix.ECONNRESET, unix.ENOTCONN:
		return fmt.Errorf("%w: %w", ErrPeerGone, err)
	case unix.EPERM:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case unix.EBADF:
		return fmt.Errorf("lent descriptor: %w: %w", os.ErrClosed, err)
	case unix.EMSGSIZE:
		return fmt.Errorf("message is larger than the send buffer; send a descriptor of the data instead: %w", err)
	}
	return err
}
