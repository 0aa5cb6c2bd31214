//go:build linux || darwin || freebsd

package evloop

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/sys/unix"
)

// flush sends what is queued until the kernel takes no more or the budget of
// this turn is used up.
func (c *Conn) flush() {
	l := c.loop
	budget := l.lim.write
	if c.out.size() >= heavyOutput {
		if l.sender == c && l.sinks == 0 {
			budget *= writeAlone
		}
		l.sender = c
	}
	for !c.out.empty() {
		if budget <= 0 {
			l.pushAgain(c)
			return
		}
		n, asked, e := c.send(budget)
		c.st.writes++
		switch e {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			c.st.eagain++
			c.flags |= flBlocked
			return
		default:
			c.fail("write", e)
			return
		}
		head := &c.out.segs[c.out.head]
		file := head.flags&segFile != 0
		if n == 0 && asked > 0 {
			err := error(io.ErrNoProgress)
			if file {
				err = fmt.Errorf("file ended %d bytes early: %w", head.n, io.ErrUnexpectedEOF)
			}
			c.fail("write", err)
			return
		}
		c.wrote(n)
		budget -= n
		c.callDone(c.out.advance(int64(n), &l.pool, l.takeDone()), nil)
		if c.state == stClosed {
			return
		}
		if n < asked && !file {
			c.st.short++
			c.flags |= flBlocked
			return
		}
	}
}

// send makes one call for the front of the queue.
func (c *Conn) send(budget int) (n, asked int, e unix.Errno) {
	l, q := c.loop, c.out
	if s := &q.segs[q.head]; s.flags&segFile != 0 {
		asked = int(min(s.n, int64(budget)))
		n, e = l.k.Sendfile(int(c.fd), s.file, s.off, asked)
		return n, asked, e
	}
	bufs, files := q.next(l.bufs[:0], budget)
	for _, b := range bufs {
		asked += len(b)
	}
	if asked > 0 {
		n, e = l.k.Write(int(c.fd), c.kind != kindPlain, bufs, files)
	}
	clear(bufs)
	return n, asked, e
}

func (c *Conn) wrote(n int) {
	c.st.bytesOut += int64(n)
	c.st.lastIO = c.loop.now
}

// callDone calls the callbacks of finished messages and gives the scratch
// slice back.
func (c *Conn) callDone(done []func(error), err error) {
	for i, f := range done {
		done[i] = nil
		f(err)
	}
	c.loop.dones = done[:0]
}

// Close ends the connection in order: no more input is taken, what is queued
// and what Offload still computes is sent within FlushTimeout, then our side
// is ended, and the peer's input discarded until it ends too or Linger is
// over. It is idempotent.
func (c *Conn) Close() {
	switch c.state {
	case stDialing:
		c.finish(fmt.Errorf("evloop: dial: %w", ErrClosed))
	case stOpen:
		c.state = stFlushing
		c.endSink(fmt.Errorf("evloop: read into: %w", ErrClosed))
		c.freeInput()
		c.deadline = c.loop.now + int64(c.loop.cfg.FlushTimeout)
		c.loop.wheel.arm(c, c.deadline)
		c.mark()
	}
}

// endOutput ends our side after the last byte.
func (c *Conn) endOutput() {
	if c.flags&flEOF != 0 {
		c.finish(nil)
		return
	}
	if e := c.loop.k.ShutdownWrite(int(c.fd)); e != 0 { // a pipe, or gone already
		c.finish(nil)
		return
	}
	c.state = stLingering
	c.deadline = c.loop.now + int64(c.loop.cfg.Linger)
	c.loop.wheel.arm(c, c.deadline)
}

// Abort ends the connection at once; queued output is lost. err, if nil
// ErrClosed, goes to everything in flight and to Handler.Close.
func (c *Conn) Abort(err error) {
	if err == nil {
		err = fmt.Errorf("evloop: abort: %w", ErrClosed)
	}
	c.finish(err)
}

// fail ends the connection because of an error.
func (c *Conn) fail(op string, cause error) {
	if c.state == stClosed {
		return
	}
	l := c.loop
	err := fmt.Errorf("evloop: %s %s: %w", op, c.peerString(), cause)
	l.stats.Errors++
	level := slog.LevelWarn
	if errors.Is(cause, unix.ECONNRESET) || errors.Is(cause, unix.EPIPE) || op == "read" && errors.Is(cause, io.ErrUnexpectedEOF) { // peers do that every day
		level = slog.LevelInfo
	}
	l.cfg.Log.Log(l.ctx, level, "connection failed", "peer", c.peerString(), "op", op, "err", cause)
	if c.state == stLingering { // everything was delivered; how the peer leaves is its own affair
		err = nil
	}
	c.finish(err)
}

// finish takes the connection out of the loop. The descriptor stays open
// until the batch of events is done, so that its number cannot come back
// while old events name it.
func (c *Conn) finish(err error) {
	if c.state == stClosed {
		return
	}
	l := c.loop
	c.state = stClosed
	if c.have != 0 { // always: another process may hold a copy of the descriptor
		l.stats.Registrations++
		_ = l.p.Set(int(c.fd), c.have, 0)
		c.have = 0
	}
	l.dead = append(l.dead, c)
	if l.sender == c {
		l.sender = nil
	}
	c.endSink(err)
	c.dropOutput(err)
	c.release()
	l.guarded(c, func() { c.h.Close(c, err) })
}

func (c *Conn) endSink(err error) {
	if s := c.sink; s != nil {
		c.sink = nil
		c.loop.sinks--
		c.loop.guarded(c, func() { s.from.Done(c, err) })
	}
}

func (c *Conn) dropOutput(err error) {
	if c.out == nil {
		return
	}
	l := c.loop
	if err == nil {
		err = fmt.Errorf("evloop: write: %w", ErrClosed)
	}
	done := c.out.drop(&l.pool, l.takeDone())
	l.guarded(c, func() { c.callDone(done, err) })
	l.putQueue(c.out)
	c.out = nil
}

// release gives back what the connection holds besides its descriptor.
func (c *Conn) release() {
	l := c.loop
	c.freeInput()
	c.closeFiles()
	l.wheel.remove(c)
	c.account()
	if c.pausedAt != 0 {
		c.st.paused += l.now - c.pausedAt
		c.pausedAt = 0
	}
	l.count(-1)
	l.stats.Closed++
	l.quota.release()
}

// Detached is a connection taken out of its loop.
type Detached struct {
	FD     int            // the caller owns it; non-blocking
	Unread []byte         // read from the socket and not consumed
	Unsent []byte         // queued and not sent
	Files  []ReceivedFile // received and not taken; the caller owns them
	Stats  ConnStats
}

// Detach takes the connection out of its loop, for another loop, another
// process or a blocking reader. Handler.Close is not called. A ReadInto ends
// with ErrDetached: its Parts say what has arrived. Callbacks of queued
// messages are called with ErrDetached; their bytes are in Unsent. ErrBusy:
// Offload works for the connection, or a file or descriptors wait to be
// sent.
func (c *Conn) Detach() (Detached, error) {
	if c.state != stOpen {
		return Detached{}, fmt.Errorf("evloop: detach: %w", ErrClosed)
	}
	var unsent []byte
	if !c.out.empty() {
		for _, s := range c.out.segs[c.out.head:] {
			if s.flags&segFile != 0 || len(s.files) > 0 {
				return Detached{}, fmt.Errorf("evloop: detach: %w", ErrBusy)
			}
			unsent = append(unsent, s.data...)
		}
	}
	if c.jobs > 0 {
		return Detached{}, fmt.Errorf("evloop: detach: %w", ErrBusy)
	}
	l := c.loop
	d := Detached{FD: int(c.fd), Unsent: unsent, Unread: append([]byte(nil), c.in...)}
	if c.files != nil {
		d.Files = c.files.queue
		c.files.queue = nil
	}
	if c.have != 0 {
		l.stats.Registrations++
		if err := l.p.Set(int(c.fd), c.have, 0); err != nil {
			return Detached{}, fmt.Errorf("evloop: detach: %w", err)
		}
		c.have = 0
	}
	c.state = stClosed
	l.conns[c.fd] = nil
	err := fmt.Errorf("evloop: %w", ErrDetached)
	c.endSink(err)
	c.dropOutput(err)
	c.release()
	l.stats.Closed--
	l.stats.Detached++
	d.Stats = c.Stats()
	return d, nil
}
