//go:build linux || darwin || freebsd

package fdpass

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Recv waits for the next message, copies it into buf, which must have room for
// at least one byte, and returns its length and the descriptors that came with
// it. The caller owns those, also when Files is empty; Files is nil only with an
// error, and then whatever came has been closed. All are close-on-exec.
//
// The number of descriptors is the peer's choice: check it with [Files.Expect].
// A received descriptor can be of any kind, and even stat or close of one may
// take as long as a hostile peer likes (a file on a hung FUSE mount): what is not
// what was expected goes to [Files.Discard] before anything is asked of it.
//
// On SOCK_STREAM a Recv may return a part of what was sent, and descriptors come
// with the Recv that has their byte.
//
// Errors to test for: ErrPeerGone (also io.EOF when the peer closed in order),
// ErrTruncated (with ErrReceiverLimit if that was why), ErrEmpty, ErrTimeout,
// net.ErrClosed. After ErrTruncated and ErrEmpty the next Recv gets the next
// message.
func (c *Conn) Recv(buf []byte) (int, *Files, error) {
	return c.RecvContext(context.Background(), buf)
}

// RecvContext is Recv that ends with ctx's error when ctx does. A message that
// arrives at the same moment is returned, not lost. A deadline that was set on
// the Conn holds as well.
func (c *Conn) RecvContext(ctx context.Context, buf []byte) (int, *Files, error) {
	files := new(Files)
	n, err := c.recv(ctx, buf, files)
	if err != nil {
		return 0, nil, fmt.Errorf("fdpass: recv: %w", err)
	}
	return n, files, nil
}

// RecvInto is Recv into a set that the caller has, for the many messages of a
// loop: it allocates nothing for up to four descriptors. What files still holds
// is closed first. After an error files is empty.
func (c *Conn) RecvInto(buf []byte, files *Files) (int, error) {
	files.Close()
	n, err := c.recv(context.Background(), buf, files)
	if err != nil {
		return 0, fmt.Errorf("fdpass: recv: %w", err)
	}
	return n, nil
}

// recvState is what one recvmsg needs and gives.
type recvState struct {
	sys   sysMsg
	try   func(fd uintptr) bool
	buf   []byte
	n     int
	oobn  int
	flags int
	err   error

	// oob has room for every descriptor that a peer can send, and for the
	// credentials, pidfd and timestamp that socket options may add: if control
	// data is cut then not for want of room.
	oob []byte
}

func (s *recvState) init() {
	s.oob = make([]byte, unix.CmsgSpace(4*kernelMaxFiles)+256)
	s.try = s.once
}

// once receives one message from fd; false means that there is none.
func (s *recvState) once(fd uintptr) bool {
	for {
		s.n, s.oobn, s.flags, s.err = s.sys.recvmsg(int(fd), s.buf, s.oob)
		if s.err != unix.EINTR {
			return s.err != unix.EAGAIN
		}
	}
}

// recv receives one message into buf and files, which is empty and stays so
// after an error.
func (c *Conn) recv(ctx context.Context, buf []byte, files *Files) (int, error) {
	files.fds = files.array[:0]
	if len(buf) == 0 {
		return 0, fmt.Errorf("no room for a byte: %w", ErrEmpty)
	}
	s := &c.in
	if ctx.Err() == nil && c.reads.quickly() {
		if !c.closed.Load() {
			s.buf = buf
			ok := s.once(uintptr(c.fd))
			s.buf = nil
			if ok && s.err == nil && s.n > 0 && s.flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) == 0 {
				files.parse(s.oob[:s.oobn])
				n := s.n
				c.reads.release()
				return n, nil
			}
			if ok {
				c.reads.hold()
				defer c.reads.release()
				return c.received(files, len(buf))
			}
		}
		c.reads.hold()
	} else if err := c.reads.take(ctx); err != nil {
		return 0, err
	}
	defer c.reads.release()
	return c.recvWait(ctx, buf, files)
}

// recvWait receives with the poller, which waits. The caller holds the turn.
func (c *Conn) recvWait(ctx context.Context, buf []byte, files *Files) (_ int, err error) {
	if ctx.Done() != nil {
		if ctx.Err() != nil {
			return 0, contextError(ctx)
		}
		done := c.reads.watch(ctx)
		defer func() { err = done(err) }()
	}
	s := &c.in
	s.buf = buf
	err = c.raw.Read(s.try)
	s.buf = nil
	if err != nil {
		return 0, c.waitError(err)
	}
	return c.received(files, len(buf))
}

// received takes the outcome of a recvmsg out of c.in.
func (c *Conn) received(files *Files, room int) (int, error) {
	if err := c.outcome(files, room); err != nil {
		files.Discard()
		files.fds = nil
		return 0, err
	}
	return c.in.n, nil
}

// outcome takes the descriptors out of c.in, and decides whether the message is good.
func (c *Conn) outcome(files *Files, room int) error {
	s := &c.in
	if s.err != nil {
		return recvError(s.err)
	}
	files.parse(s.oob[:s.oobn])
	return c.check(files, room)
}

// check decides whether the message in c.in is whole. The peer decides what
// arrives, so nothing is believed but the flags that the kernel sets.
func (c *Conn) check(files *Files, room int) error {
	s := &c.in
	if s.flags&unix.MSG_CTRUNC != 0 {
		if c.atFileLimit() {
			return fmt.Errorf("%w: %w (%d descriptors arrived; raise RLIMIT_NOFILE or lower the credit)", ErrTruncated, ErrReceiverLimit, files.Len())
		}
		return fmt.Errorf("%w: the kernel dropped control data (%d descriptors arrived)", ErrTruncated, files.Len())
	}
	if s.flags&unix.MSG_TRUNC != 0 {
		return fmt.Errorf("%w: the buffer holds %d bytes", ErrTruncated, room)
	}
	if s.n > 0 {
		return nil
	}
	if files.Len() > 0 || !c.hungUp() {
		return ErrEmpty
	}
	return fmt.Errorf("%w: %w", ErrPeerGone, io.EOF)
}

// atFileLimit reports whether this process cannot open one more descriptor.
func (c *Conn) atFileLimit() bool {
	err := c.control(func(fd int) error {
		probe, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			unix.Close(probe)
		}
		return err
	})
	return err == unix.EMFILE
}

// hungUp reports whether the peer has closed its sending side: an empty
// SOCK_SEQPACKET message reads like the end of the connection.
func (c *Conn) hungUp() bool {
	if c.typ == Stream {
		return true
	}
	gone := true
	err := c.control(func(fd int) error {
		gone = peerHungUp(fd)
		return nil
	})
	return gone || err != nil
}

func recvError(err error) error {
	if err == unix.ECONNRESET || err == unix.ENOTCONN {
		return fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	return err
}

// parse collects every descriptor in the control data oob into an empty set, by
// the length in each header: CMSG_SPACE rounds up, so the room for one holds two.
func (f *Files) parse(oob []byte) {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if h.Level == unix.SOL_SOCKET && (h.Type == unix.SCM_RIGHTS || h.Type == scmPidfd) {
			for ; len(data) >= 4; data = data[4:] {
				f.fds = append(f.fds, int(int32(binary.NativeEndian.Uint32(data))))
			}
		}
		oob = rest
	}
}
