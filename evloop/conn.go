//go:build linux || darwin || freebsd

package evloop

import (
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// Handler is what a connection does with its bytes. All methods run on the
// loop's goroutine and must not block; each may call any method of any
// connection of the same loop. A panic closes its connection only.
type Handler interface {
	// Open is called once, before any other method, when the connection
	// stands.
	Open(c *Conn)
	// Data is given all unread bytes and returns how many it used. The rest
	// is kept, and offered again together with what arrives next. b is
	// valid only inside the call. A handler that calls ReadInto returns as
	// used what comes before the payload.
	Data(c *Conn, b []byte) (used int)
	// Drained is called when the queued output falls below LowWater, after
	// it had reached it: the time to queue more.
	Drained(c *Conn)
	// Close is called exactly once, before the descriptor is closed. err is
	// nil if both sides ended as agreed.
	Close(c *Conn, err error)
}

// EOFHandler is a Handler that decides what the peer's end of stream means.
// Output may still be queued, and the handler must call Close in the end.
// Without this method the loop itself calls Close.
type EOFHandler interface {
	EOF(c *Conn)
}

// Base is a Handler that ignores everything; embed it and override.
type Base struct{}

func (Base) Open(*Conn)                 {}
func (Base) Data(_ *Conn, b []byte) int { return len(b) }
func (Base) Drained(*Conn)              {}
func (Base) Close(*Conn, error)         {}

var (
	_ Handler   = Base{}
	_ io.Writer = (*Conn)(nil)
)

// connState is where a connection is on its way.
//
//	          connected             Close              output sent
//	dialing ────────────► open ────────────► flushing ────────────► lingering
//	   │                   │                    │   shutdown(WR)        │ EOF or
//	   │ error             │ Abort, error       │ error, timeout        │ timeout
//	   └───────────────────┴────────► closed ◄──┴───────────────────────┘
type connState uint8

const (
	stDialing connState = iota
	stOpen
	stFlushing
	stLingering
	stClosed
)

type connKind uint8

const (
	kindPlain connKind = iota // a pipe, or anything that is no socket
	kindTCP
	kindUnix
)

type connFlags uint16

const (
	flMarked      connFlags = 1 << iota // has output or an interest to settle
	flListed                            // is in Loop.dirty
	flAgain                             // is in Loop.again
	flEOF                               // the peer has ended its side
	flBlocked                           // the kernel's send buffer is full
	flQuiet                             // hung up with nothing wanted: not registered
	flHigh                              // output has reached LowWater: owes a Drained
	flPauseOut                          // paused: output at HighWater
	flPauseBudget                       // paused: Budget exhausted
	flPauseWork                         // paused: Offload share used up
	flOpened                            // Handler.Open was called
	flFeeding                           // inside Handler.Data
	flFresh                             // adopted, and not read since: there may be something
)

const flPaused = flPauseOut | flPauseBudget | flPauseWork

// Conn is a connection of a Loop. Only the loop's goroutine may call its
// methods; others use Loop.Post. An idle Conn owns no buffer.
type Conn struct {
	// All fields are owned by the loop goroutine. Those that every message
	// touches come first, in as few cache lines as can be: with thousands of
	// connections each line is a miss.
	loop   *Loop
	h      Handler
	fd     int32
	state  connState
	kind   connKind
	have   Interest // what the poller has
	flags  connFlags
	pauses int32     // Pause calls less Resume calls
	jobs   int32     // Offload jobs in flight
	out    *outQueue // nil when nothing was ever queued, or not lately
	sink   *sink     // ReadInto in progress
	in     []byte    // unread bytes that the handler left
	st     counters

	files        *fileQueue
	charged      int64 // what Budget was told
	maxIn        int32
	slot         int32 // of the idle wheel; -1 none
	idle         int64 // ns; 0 none
	served       int64 // the turn in which it was last served as bulk
	deadline     int64 // of dialing, flushing and lingering
	pausedAt     int64
	wprev, wnext *Conn
	peer         unix.Sockaddr
}

// Loop returns the loop that owns the connection.
func (c *Conn) Loop() *Loop { return c.loop }

// Handler returns the connection's handler.
func (c *Conn) Handler() Handler { return c.h }

// SetHandler replaces the handler, for a protocol that changes in
// mid-stream. Open is not called.
func (c *Conn) SetHandler(h Handler) { c.h = h }

// FD lends the descriptor's number, for getsockopt and logs. Reading from
// it, writing to it or closing it breaks the connection.
func (c *Conn) FD() int { return int(c.fd) }

// RemoteAddr returns the peer's address, nil for a pipe.
func (c *Conn) RemoteAddr() net.Addr {
	switch sa := c.peer.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}
	}
	return nil
}

func (c *Conn) peerString() string {
	if a := c.RemoteAddr(); a != nil && a.String() != "" {
		return a.String()
	}
	return fmt.Sprintf("fd %d", c.fd)
}

// Closed reports whether the connection takes no more output: Close or
// Abort was called, or it failed.
func (c *Conn) Closed() bool { return c.state >= stFlushing }

// Buffered returns how many unread bytes the handler has left.
func (c *Conn) Buffered() int { return len(c.in) }

// Queued returns how many bytes wait to be sent.
func (c *Conn) Queued() int64 { return c.out.size() }

// SetMaxUnread bounds how many bytes the handler may leave unconsumed; with
// more the connection fails with ErrUnreadFull.
func (c *Conn) SetMaxUnread(n int) { c.maxIn = int32(min(n, 1<<31-1)) }

// Write queues a copy of p; the kernel takes it before the loop sleeps. A
// large p is offered to the kernel at once and only the rest is copied. It
// returns len(p) or ErrClosed or ErrQueueFull, and then nothing was queued.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.mayQueue(int64(len(p))); err != nil {
		return 0, err
	}
	rest := p
	if len(p) >= c.loop.lim.direct && c.out.empty() && c.state == stOpen {
		l := c.loop
		l.one[0] = p
		n, e := l.k.Write(int(c.fd), c.kind != kindPlain, l.one[:], nil)
		l.one[0] = nil
		c.st.writes++
		switch e {
		case 0:
			c.wrote(n)
			rest = p[n:]
		case unix.EAGAIN:
			c.st.eagain++
		case unix.EINTR: // the flush tries again
		default: // the flush meets it again and fails the connection
		}
	}
	if len(rest) > 0 {
		c.queue().appendCopy(rest, &c.loop.pool)
		c.st.outPeak = max(c.st.outPeak, c.out.bytes)
		c.mark()
	}
	return len(p), nil
}

// WriteOwned queues p without a copy. p is lent until done is called, on the
// loop's goroutine, exactly once if WriteOwned returned nil: with nil when
// the kernel has taken all of it, else with the reason why it never will. If
// WriteOwned returns an error, done is not called.
func (c *Conn) WriteOwned(p []byte, done func(error)) error {
	if err := c.mayQueue(int64(len(p))); err != nil {
		return err
	}
	c.enqueue(false, segment{data: p, done: done})
	return nil
}

// SendFile queues n bytes of the regular file fd from off (sendfile). fd is
// lent until done is called. Reading a cold file blocks the loop: read it
// ahead elsewhere.
func (c *Conn) SendFile(fd int, off, n int64, done func(error)) error {
	return c.Send(Message{File: fd, FileOff: off, FileLen: n, Done: done})
}

// Send queues m as one unit. If it returns an error, nothing was queued and
// Done is not called.
func (c *Conn) Send(m Message) error {
	var total int64
	segs := c.loop.segs[:0]
	for _, b := range m.Bufs {
		if len(b) > 0 {
			total += int64(len(b))
			segs = append(segs, segment{data: b, flags: segMore})
		}
	}
	if len(m.FDs) > 0 && (c.kind != kindUnix || len(segs) == 0 || len(m.FDs) > maxPassed) {
		return fmt.Errorf("evloop: send: %d descriptors need a Unix socket, a byte to travel with, and be at most %d", len(m.FDs), maxPassed)
	}
	if m.FileLen > 0 {
		segs = append(segs, segment{file: m.File, off: m.FileOff, n: m.FileLen, flags: segFile})
	}
	if err := c.mayQueue(total); err != nil {
		return err
	}
	if len(segs) == 0 {
		segs = append(segs, segment{})
	}
	segs[0].files = m.FDs
	last := &segs[len(segs)-1]
	last.flags &^= segMore
	last.done = m.Done
	c.enqueue(m.Urgent, segs...)
	clear(segs)
	c.loop.segs = segs[:0]
	return nil
}

func (c *Conn) enqueue(urgent bool, segs ...segment) {
	c.queue().push(urgent, segs...)
	c.st.outPeak = max(c.st.outPeak, c.out.bytes)
	c.mark()
}

func (c *Conn) mayQueue(n int64) error {
	if c.state > stFlushing || c.state == stFlushing && c.jobs == 0 {
		return fmt.Errorf("evloop: write to %s: %w", c.peerString(), ErrClosed)
	}
	if c.out.size()+n > int64(c.loop.cfg.MaxOut) && !(c.out.empty() && n <= int64(c.loop.cfg.MaxOut)) {
		return fmt.Errorf("evloop: write to %s: %d bytes wait: %w", c.peerString(), c.out.size(), ErrQueueFull)
	}
	return nil
}

func (c *Conn) queue() *outQueue {
	if c.out == nil {
		c.out = c.loop.getQueue()
	}
	return c.out
}

// Pause stops reading. Calls are counted: reading goes on after as many
// calls of Resume. Bytes that were read already wait in the connection.
func (c *Conn) Pause() {
	c.pauses++
	c.pausedSince()
	c.mark()
}

// Resume undoes one Pause.
func (c *Conn) Resume() {
	if c.pauses == 0 {
		panic("evloop: Resume without Pause")
	}
	c.pauses--
	c.unpaused()
}

func (c *Conn) paused() bool { return c.pauses > 0 || c.flags&flPaused != 0 }

func (c *Conn) setPause(f connFlags) {
	if c.flags&f == 0 {
		c.flags |= f
		c.pausedSince()
		c.mark()
	}
}

func (c *Conn) clearPause(f connFlags) {
	if c.flags&f != 0 {
		c.flags &^= f
		c.unpaused()
	}
}

func (c *Conn) pausedSince() {
	if c.pausedAt == 0 {
		c.pausedAt = c.loop.now
	}
}

func (c *Conn) unpaused() {
	if c.paused() || c.state == stClosed {
		return
	}
	if c.pausedAt != 0 {
		c.st.paused += c.loop.now - c.pausedAt
		c.pausedAt = 0
	}
	c.mark()
	if len(c.in) > 0 {
		c.loop.pushAgain(c)
	}
}

// mark has the connection settled before the loop sleeps.
func (c *Conn) mark() {
	c.flags |= flMarked
	l := c.loop
	if l.cur != c && c.flags&flListed == 0 && c.state != stClosed {
		c.flags |= flListed
		l.dirty = append(l.dirty, c)
	}
}

// interest is what the poller should watch for now.
func (c *Conn) interest() Interest {
	if c.state == stClosed {
		return 0
	}
	if c.state == stDialing {
		return Write | Watch
	}
	var w Interest
	if c.mayRead() {
		w = Read
	}
	if c.flags&flBlocked != 0 {
		w |= Write
	}
	if w == 0 && c.flags&flQuiet != 0 {
		return 0
	}
	return w | Watch
}

// mayRead: while closing, input is read and discarded, so that the peer is
// not reset while it still sends.
func (c *Conn) mayRead() bool {
	return c.flags&flEOF == 0 && (c.state == stOpen && !c.paused() || c.state == stFlushing || c.state == stLingering)
}

// settle sends what is queued, keeps the water marks, takes the next step of
// closing and tells the poller what changed.
func (c *Conn) settle() {
	l := c.loop
	for try := 0; ; try++ {
		c.flags &^= flMarked
		if c.flags&flBlocked == 0 && !c.out.empty() && c.state != stDialing {
			c.flush()
		}
		if c.state == stClosed {
			return
		}
		c.watermarks()
		if c.state == stFlushing && c.out.empty() && c.jobs == 0 {
			c.endOutput()
		}
		if c.state == stClosed {
			return
		}
		if c.flags&flMarked == 0 {
			break
		}
		if try == 3 { // a callback that always writes more: others first
			c.flags |= flListed
			l.dirty = append(l.dirty, c)
			break
		}
	}
	if c.out != nil && c.out.empty() {
		l.putQueue(c.out)
		c.out = nil
	}
	c.account()
	if want := c.interest(); want != c.have {
		c.register(want)
	}
}

func (c *Conn) register(want Interest) {
	l := c.loop
	l.stats.Registrations++
	if err := l.p.Set(int(c.fd), c.have, want); err != nil {
		c.fail("register", err)
		return
	}
	c.have = want
}

func (c *Conn) watermarks() {
	n, cfg := c.out.size(), &c.loop.cfg
	if n >= int64(cfg.HighWater) {
		c.setPause(flPauseOut)
	}
	if n >= int64(cfg.LowWater) {
		c.flags |= flHigh
		return
	}
	c.clearPause(flPauseOut)
	if c.flags&flHigh != 0 {
		c.flags &^= flHigh
		if c.state == stOpen {
			c.h.Drained(c)
		}
	}
}
