package worker

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/evloop"
	"ndferry/internal/handover"
	"ndferry/internal/pace"
	"ndferry/internal/session"
	"ndferry/wire"
)

const (
	inFlight    = 2         // operations of a connection that a lane is given at once: the second, as a Commit behind the last Write, follows without a turn of the loop
	answersHigh = 256 << 10 // bytes of queued answers at which reading pauses
	answersLow  = 64 << 10
	cellsHigh   = wire.MaxCell // bytes of queued output at which no more cells are read ahead
)

// phase is where the input of a connection stands.
//
//	            verdict Read            last byte
//	header ───────┬──────────► payload ───────────► trailer ──► header
//	   │ ▲        │ Skip       (ReadInto)              ▲
//	   ▼ │        └──────────► skipped ────────────────┘
//	  waiting: the session or the budget has no memory yet; the connection is paused
type phase uint8

const (
	atHeader phase = iota
	waiting
	payload
	skipped
	atTrailer
)

// loopConn drives the session of one connection on the loop. The loop's goroutine owns all fields.
type loopConn struct {
	d      *loopDriver
	ticket *ticket
	c      *evloop.Conn
	ses    *session.Session
	ex     *session.Executor

	phase    phase
	header   wire.Header
	skip     bool // the payload is thrown away
	left     int  // of a payload that is thrown away
	crc      uint32
	reserved int64 // bytes of a control frame that the budget was asked for
	awaiting bool  // the pool will call

	jobs    []session.Operation // in order; waiting
	running int
	beside  int             // of what runs: each on a goroutine of its own, see Executor.Parallel
	lane    *evloop.Offload // of what runs

	answers int  // bytes queued that are no cells
	paused  bool // for answers
	sends   int
	frame   watchdog // progress inside a frame
	stall   watchdog // progress of output
	timer   *evloop.Timer
	greeted bool
	closing bool // the session has closed
	dead    bool // the connection has

	draining bool // asked for before Open
	forced   bool // that, too

	meta  *handover.Meta // of a connection that a master passed
	state []byte         // the session of one that another worker has let go, until Open
}

func newLoopConn(d *loopDriver, t *ticket) *loopConn {
	lc := &loopConn{d: d, ticket: t}
	lc.frame = watchdog{period: d.srv.cfg.Frame, want: progress, late: lc.tooSlow}
	lc.stall = watchdog{period: d.srv.cfg.Stall, want: 1, late: func() { lc.c.Abort(evloop.ErrTimeout) }}
	lc.ex = session.NewExecutor(d.srv.ctx, d.srv.store, &d.srv.pool)
	lc.ex.Validate(d.srv.cfg.Session.Validate)
	lc.ex.Checkpoint(d.srv.cfg.Session.Checkpoint)
	lc.ex.Share(&d.srv.owners, func() {
		_ = d.loop.Post(func() {
			if lc.c != nil {
				lc.c.Abort(nil)
			}
		})
	})
	return lc
}

// Open implements evloop.Handler.
func (lc *loopConn) Open(c *evloop.Conn) {
	lc.c = c
	cfg := lc.d.srv.sessionOf(func() (time.Duration, bool) { return pace.Delay(c.FD()) })
	if len(lc.state) == 0 {
		lc.ses = session.New(cfg, lc.ex, time.Now())
	} else if !lc.thaw(cfg) {
		return
	}
	if lc.draining {
		lc.end(lc.forced)
	}
	lc.act()
}

// greets counts a client whose HELLO has come.
func (lc *loopConn) greets() {
	if lc.greeted || !lc.ses.Greeted() {
		return
	}
	lc.greeted = true
	lc.ticket.greeted()
	if lc.timer != nil {
		lc.timer.Stop()
	}
}

// Drained implements evloop.Handler. The water marks are out of reach; send has its own.
func (lc *loopConn) Drained(*evloop.Conn) {}

// Data implements evloop.Handler: it takes headers, trailers, and what is thrown away. Payloads are read by ReadInto.
func (lc *loopConn) Data(c *evloop.Conn, b []byte) (used int) {
	for !lc.closing {
		if lc.paused { // the queue of answers is full: what is left is offered again
			return used
		}
		rest := b[used:]
		switch lc.phase {
		case atHeader:
			if len(rest) < wire.HeaderSize {
				if len(rest) > 0 {
					lc.frame.begin(c.Loop())
				}
				return used
			}
			h, err := wire.ParseHeader(rest[:wire.HeaderSize])
			used += wire.HeaderSize
			lc.header = h
			if err != nil {
				lc.ses.BadHeader(err)
				lc.act()
				continue
			}
			lc.phase = waiting
			lc.ask()
			if lc.phase == waiting {
				c.Pause()
				return used
			}
			lc.act()
		case skipped:
			n := min(lc.left, len(rest))
			lc.progress(n)
			used += n
			if lc.left -= n; lc.left > 0 {
				return used
			}
			lc.phase = atTrailer
		case atTrailer:
			if len(rest) < wire.TrailerSize {
				return used
			}
			lc.trailer(rest[:wire.TrailerSize])
			used += wire.TrailerSize
		default: // waiting, or a payload that ReadInto takes
			return used
		}
	}
	return len(b)
}

// ask gives the header to the session; the phase tells what follows.
func (lc *loopConn) ask() {
	h := lc.header
	if h.Kind != wire.Chunk && h.Length > smallFrame && lc.reserved == 0 {
		if !lc.d.srv.unread.Reserve(int64(h.Length)) {
			lc.await(&lc.d.srv.unread, false)
			return
		}
		lc.reserved = int64(h.Length)
	}
	p := lc.ses.OnHeader(h)
	if p.Verdict != session.Wait {
		lc.phase = atHeader
	}
	switch {
	case p.Verdict == session.Wait:
		if p.Full {
			lc.await(&lc.d.srv.pool, false)
		}
	case p.Verdict == session.Refuse:
		lc.release()
	case h.Length == 0:
		lc.frame.end()
	case p.Verdict == session.Skip:
		lc.release()
		lc.begin(skipped)
		lc.skip, lc.left = true, int(h.Length)
	default:
		if h.Length >= bulkBytes {
			lc.d.thread.take()
		}
		lc.begin(payload)
		if err := lc.c.ReadInto(p.Memory, lc); err != nil { // closed meanwhile
			lc.Done(lc.c, err)
		}
	}
}

func (lc *loopConn) begin(p phase) {
	lc.phase, lc.crc, lc.skip = p, 0, false
	lc.frame.begin(lc.c.Loop())
}

func (lc *loopConn) progress(n int) { lc.frame.steps += n }

// retry asks again after something has changed.
func (lc *loopConn) retry() {
	if lc.phase != waiting || lc.closing || lc.dead {
		return
	}
	lc.ask()
	if lc.phase != waiting {
		lc.c.Resume()
	}
}

// await has retry called when the pool has memory again.
func (lc *loopConn) await(p *session.Pool, half bool) {
	if lc.awaiting {
		return
	}
	lc.awaiting = true
	p.Await(half, func() {
		_ = lc.d.loop.Post(func() {
			lc.awaiting = false
			if lc.dead {
				return
			}
			lc.retry()
			lc.start()
			lc.act()
		})
	})
}

// Part implements evloop.Sink: the checksum of a piece that has just arrived.
func (lc *loopConn) Part(_ *evloop.Conn, p []byte) {
	lc.progress(len(p))
	lc.crc = wire.Update(lc.crc, p)
}

// Done implements evloop.Sink.
func (lc *loopConn) Done(_ *evloop.Conn, err error) {
	if err == nil {
		lc.phase = atTrailer
		return
	}
	lc.phase = atHeader
	lc.release()
	lc.ses.OnPayload(0, 0, wire.Aborted) // gives the memory back
}

func (lc *loopConn) trailer(b []byte) {
	lc.phase = atHeader
	lc.frame.end()
	want, status, err := wire.ParseTrailer(b)
	switch {
	case lc.skip && err == nil:
	case err != nil:
		lc.ses.BadHeader(err)
		if !lc.skip {
			lc.ses.OnPayload(0, 0, wire.Aborted)
		}
	default:
		lc.ses.OnPayload(lc.crc, want, status)
	}
	lc.release()
	lc.greets()
	lc.act()
}

func (lc *loopConn) release() {
	if lc.reserved > 0 {
		lc.d.srv.unread.Release(lc.reserved)
		lc.reserved = 0
	}
}

// tooSlow ends a connection whose frame does not come.
func (lc *loopConn) tooSlow() {
	if lc.phase == waiting || lc.paused { // it is we who let it wait
		lc.frame.end()
		lc.frame.begin(lc.c.Loop())
		return
	}
	lc.ses.BadHeader(wire.Failf(wire.CodeDeadline, "%v: less than 64 KiB in %v", lc.header.Kind, lc.d.srv.cfg.Frame))
	lc.act()
}

// drain is called from any goroutine.
func (lc *loopConn) drain(force bool) {
	_ = lc.d.loop.Post(func() {
		if lc.c == nil { // it was accepted a moment ago
			lc.draining, lc.forced = true, lc.forced || force
		} else if !lc.dead {
			lc.end(force)
			lc.act()
		}
	})
}

// end has the session end, at once when it is forced.
func (lc *loopConn) end(force bool) {
	lc.ses.Drain(force)
	if !force {
		return
	}
	lc.d.loop.After(lastWords, func() {
		if !lc.dead {
			lc.c.Abort(evloop.ErrTimeout)
		}
	})
}

// Close implements evloop.Handler: the descriptor goes, what runs ends by itself.
func (lc *loopConn) Close(c *evloop.Conn, err error) {
	if lc.ticket.shared {
		_ = unix.Shutdown(c.FD(), unix.SHUT_RDWR)
	}
	if err != nil && !lc.closing && !errors.Is(err, net.ErrClosed) {
		lc.d.srv.cfg.Log.Debug("connection broke", "err", err)
	}
	lc.dead = true
	if lc.ses == nil { // it never stood
		lc.finish()
		return
	}
	lc.frame.stop()
	lc.stall.stop()
	if lc.timer != nil {
		lc.timer.Stop()
	}
	if lc.phase == atTrailer && !lc.skip {
		lc.ses.OnPayload(0, 0, wire.Aborted)
	}
	lc.phase = atHeader
	lc.release()
	lc.act()
	lc.finish()
}
