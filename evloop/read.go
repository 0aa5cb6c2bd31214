//go:build linux || darwin || freebsd

package evloop

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Sink follows a ReadInto. Both methods run on the loop's goroutine.
type Sink interface {
	// Part is called after each piece of the payload has arrived in dst, in
	// order and without gaps: p is that part of dst, still in the
	// processor's cache. The sum of all pieces is the whole.
	Part(c *Conn, p []byte)
	// Done is called exactly once: with nil when dst is full, else with the
	// reason why it never will be. From then on dst is the caller's again.
	Done(c *Conn, err error)
}

// SinkFunc is a Sink that only wants to know the end.
type SinkFunc func(c *Conn, err error)

func (SinkFunc) Part(*Conn, []byte)        {}
func (f SinkFunc) Done(c *Conn, err error) { f(c, err) }

type sink struct {
	dst  []byte
	off  int
	from Sink
}

// ReadInto reads the next len(dst) bytes of the stream straight into dst,
// before Data is called again; one system call fills the end of dst and
// catches what follows it. Unread bytes that were there already are copied.
// dst is lent until s.Done is called; it must stay mapped (unmap or truncate
// it and the connection fails with ErrDst). ErrBusy: one is in progress.
func (c *Conn) ReadInto(dst []byte, s Sink) error {
	switch {
	case c.state != stOpen:
		return fmt.Errorf("evloop: read into: %w", ErrClosed)
	case c.sink != nil:
		return fmt.Errorf("evloop: read into: %w", ErrBusy)
	}
	c.sink = &sink{dst: dst, from: s}
	c.loop.sinks++
	if c.flags&flFeeding == 0 && (len(c.in) > 0 || len(dst) == 0) {
		c.loop.pushAgain(c)
	}
	return nil
}

// readable reads once, or several times while a ReadInto fills its calls and
// has budget left.
func (c *Conn) readable() {
	if c.flags&flAgain != 0 { // resumed in this turn: what waits comes before what arrives
		c.refeed()
	}
	for budget := c.loop.lim.sink; budget > 0 && c.mayRead(); {
		n, asked := 0, 0
		switch {
		case c.state != stOpen:
			c.discard()
		case c.sink != nil:
			n, asked = c.readSink()
		default:
			n, asked = c.readPlain()
		}
		if c.sink == nil || n == 0 || n < asked {
			return
		}
		budget -= n
	}
}

// readPlain reads behind the bytes that the handler left, into the loop's
// shared buffer if there are none.
func (c *Conn) readPlain() (n, asked int) {
	l, kept := c.loop, len(c.in)
	a, b := l.rbuf, []byte(nil)
	if room := c.in[kept:cap(c.in)]; kept > 0 && len(room) > 0 {
		a, b = room, l.rbuf
	}
	n, ok := c.recv(a, b)
	if !ok {
		return 0, 0
	}
	asked = len(a) + len(b)
	if kept == 0 {
		c.keep(c.feed(l.rbuf[:n]), false)
		return n, asked
	}
	if &a[0] == &l.rbuf[0] {
		c.grow(a[:n])
	} else {
		k := min(n, len(a))
		c.in = c.in[:kept+k]
		c.grow(b[:n-k])
	}
	c.keep(c.feed(c.in), true)
	return n, asked
}

// readSink reads into the destination; the call that can finish it also
// catches the beginning of what follows.
func (c *Conn) readSink() (n, asked int) {
	s := c.sink
	dst := s.dst[s.off:min(len(s.dst), s.off+c.loop.lim.piece)]
	var ahead []byte
	if s.off+len(dst) == len(s.dst) {
		ahead = c.loop.rbuf[:min(readAhead, len(c.loop.rbuf))]
	}
	n, ok := c.recv(dst, ahead)
	if !ok {
		return 0, 0
	}
	k := min(n, len(dst))
	c.filled(k)
	if n > k {
		c.keep(c.feed(ahead[:n-k]), false)
	}
	return n, len(dst)
}

// recv is the one place that reads. ok is false if there is nothing to feed:
// no data, the end of the stream, or a failed connection.
func (c *Conn) recv(a, b []byte) (int, bool) {
	l := c.loop
	for {
		var n int
		var e unix.Errno
		if c.kind == kindUnix {
			n, e = c.recvFiles(a, b)
		} else {
			n, e = l.k.Read(int(c.fd), c.kind == kindTCP, a, b)
		}
		c.st.reads++
		switch e {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			c.st.eagain++
			return 0, false
		case unix.EFAULT:
			c.fail("read", ErrDst)
			return 0, false
		default:
			c.fail("read", e)
			return 0, false
		}
		if n == 0 {
			c.ended()
			return 0, false
		}
		c.st.bytesIn += int64(n)
		c.st.lastIO = l.now
		return n, true
	}
}

// feed gives b to the sink and the handler until neither takes more, and
// returns what is left.
func (c *Conn) feed(b []byte) []byte {
	if c.flags&flFeeding != 0 {
		return b
	}
	c.flags |= flFeeding
	defer func() { c.flags &^= flFeeding }()
	for c.state == stOpen {
		if c.sink != nil {
			k := copy(c.sink.dst[c.sink.off:], b)
			b = b[k:]
			c.filled(k)
			if c.sink != nil {
				return b
			}
			continue
		}
		if len(b) == 0 || c.paused() {
			return b
		}
		used := c.h.Data(c, b)
		if used < 0 || used > len(b) {
			panic(fmt.Sprintf("evloop: Data used %d of %d bytes", used, len(b)))
		}
		b = b[used:]
		if c.sink == nil {
			break
		}
	}
	if c.state != stOpen {
		return nil
	}
	return b
}

// filled reports k fresh bytes of the sink, and its end.
func (c *Conn) filled(k int) {
	s := c.sink
	p := s.dst[s.off : s.off+k]
	s.off += k
	if k > 0 {
		s.from.Part(c, p)
	}
	if c.sink == s && s.off == len(s.dst) {
		c.sink = nil
		c.loop.sinks--
		c.st.frames++
		s.from.Done(c, nil)
	}
}

// keep stores what the handler left. inner says that rest lies in c.in.
func (c *Conn) keep(rest []byte, inner bool) {
	l := c.loop
	switch {
	case c.state != stOpen || len(rest) == 0:
		c.freeInput()
		return
	case inner:
		if len(rest) < len(c.in) {
			c.in = c.in[:copy(c.in[:len(rest)], rest)]
		}
	default:
		c.in = append(l.pool.get(len(rest))[:0], rest...)
	}
	c.st.inPeak = max(c.st.inPeak, int64(len(c.in)))
	if len(c.in) >= int(c.maxIn) && !c.paused() && c.sink == nil {
		c.fail("read", ErrUnreadFull)
	}
}

// grow appends p to the unread bytes.
func (c *Conn) grow(p []byte) {
	if len(p) == 0 {
		return
	}
	old := c.in
	if need := len(old) + len(p); need > cap(old) {
		var b []byte
		if need <= blockSizes[len(blockSizes)-1] {
			b = c.loop.pool.get(need)
		} else {
			b = make([]byte, 0, max(need, 2*cap(old)))
		}
		c.in = append(b, old...)
		c.loop.pool.put(old)
	}
	c.in = append(c.in, p...)
}

func (c *Conn) freeInput() {
	if c.in != nil {
		c.loop.pool.put(c.in)
		c.in = nil
	}
}

// refeed offers the unread bytes again, after Resume, ReadInto or Adopt.
func (c *Conn) refeed() {
	if c.state == stOpen && (len(c.in) > 0 || c.sink != nil) {
		c.keep(c.feed(c.in), true)
	}
}

// ended handles the peer's end of stream.
func (c *Conn) ended() {
	c.flags |= flEOF
	if c.state == stLingering {
		c.finish(nil)
		return
	}
	if c.state != stOpen {
		c.mark()
		return
	}
	if c.sink != nil {
		c.fail("read", io.ErrUnexpectedEOF)
		return
	}
	if h, ok := c.h.(EOFHandler); ok {
		h.EOF(c)
	} else {
		c.Close()
	}
	if c.state != stClosed {
		c.mark()
	}
}

// discard reads and forgets, so that a peer that still sends sees our end of
// stream and not a reset.
func (c *Conn) discard() {
	n, ok := c.recv(c.loop.rbuf, nil)
	if !ok || c.state == stClosed {
		return
	}
	c.st.discarded += int64(n)
	if c.st.discarded > lingerBytes {
		c.finish(fmt.Errorf("evloop: close: peer goes on sending: %w", ErrTimeout))
	}
}
