package worker

import (
	"errors"
	"time"

	"ndferry/evloop"
	"ndferry/internal/session"
	"ndferry/wire"
)

// act does what the session asks for.
func (lc *loopConn) act() {
	for {
		a, ok := lc.ses.Next()
		if !ok {
			return
		}
		switch a.Do {
		case session.Send:
			lc.send(a)
		case session.Submit:
			lc.submit(a.Op)
		case session.Abandon:
			lc.ex.Abandon(a.Stream)
		case session.Arm:
			if lc.timer != nil {
				lc.timer.Stop() // of the handshake, which is over
			}
			lc.timer = lc.d.loop.After(time.Until(a.At), func() {
				lc.timer = nil
				lc.ses.OnTick(time.Now())
				lc.act()
			})
		case session.Close:
			lc.closing = true
			lc.frame.stop()
			if a.Err != nil {
				lc.d.srv.cfg.Log.Debug("connection closed", "why", a.Err)
			}
			if lc.phase == atTrailer && !lc.skip {
				lc.phase = atHeader
				lc.ses.OnPayload(0, 0, wire.Aborted)
			}
			lc.c.Close()
		}
	}
}

// send queues a message. Urgent ones overtake all but the one that is being sent, so a PONG waits for one cell at most.
func (lc *loopConn) send(a session.Action) {
	n := 0
	for _, s := range a.Segments {
		n += len(s)
	}
	cell := a.Token != 0
	if n >= bulkBytes {
		lc.d.thread.take()
	}
	if lc.sends++; lc.sends == 1 {
		lc.stall.begin(lc.d.loop)
	}
	if !cell {
		if lc.answers += n; lc.answers >= answersHigh && !lc.paused {
			lc.paused = true
			lc.c.Pause()
		}
	}
	done := func(error) {
		lc.stall.steps++
		if lc.sends--; lc.sends == 0 {
			lc.stall.end()
		}
		if cell {
			lc.ses.OnSent(a.Token)
			lc.changed()
			return
		}
		if lc.answers -= n; lc.answers < answersLow && lc.paused {
			lc.paused = false
			lc.c.Resume()
		}
	}
	if err := lc.c.Send(evloop.Message{Bufs: a.Segments, Urgent: a.Urgent, Done: done}); err != nil {
		done(err)
	}
}

// changed looks at all that may go on after a result or a sent cell.
func (lc *loopConn) changed() {
	lc.retry()
	lc.act()
	lc.start()
	lc.act()
	lc.finish()
}

// submit runs an operation here when it is quick and nothing is before it, else on a worker.
func (lc *loopConn) submit(op session.Operation) {
	if len(lc.jobs) == 0 && lc.quick(&op) {
		lc.ses.OnDone(op.ID, lc.run(op))
		return
	}
	lc.jobs = append(lc.jobs, op)
	lc.start()
}

// quick tells that op may be run here and now, if it is the next.
func (lc *loopConn) quick(op *session.Operation) bool {
	waits := op.Job == session.Begin && op.Spec.Resume // for an older connection, which this loop may have to end
	return !waits && lc.running == 0 && lc.ex.Quick(op)
}

func (lc *loopConn) run(op session.Operation) session.Result {
	if lc.dead && !lc.ex.Wanted(&op) {
		return session.Result{Err: session.ErrUnserved}
	}
	return lc.ex.Run(op, nil)
}

// start gives waiting operations to the workers, in order. Only a read for a peer that does not take its cells is put off, behind
// what does not need it.
func (lc *loopConn) start() {
	for {
		i := lc.next()
		if i < 0 {
			return
		}
		op := lc.jobs[i]
		lane := lc.d.lane(op.Job)
		beside := lc.mayRunBeside(&op)
		if !beside && lc.running > 0 && (lc.beside > 0 || lane != lc.lane || lc.running >= inFlight) {
			return // order: what runs ends first
		}
		lc.jobs = append(lc.jobs[:i], lc.jobs[i+1:]...)
		if len(lc.jobs) == 0 {
			lc.jobs = nil
		}
		if beside {
			lc.runBeside(op)
			continue
		}
		if lc.dead && !lc.ex.Wanted(&op) {
			lc.ses.OnDone(op.ID, session.Result{Err: session.ErrUnserved})
			continue
		}
		if lc.quick(&op) {
			lc.ses.OnDone(op.ID, lc.ex.Run(op, nil))
			continue
		}
		lc.lane = lane
		lc.running++
		var r session.Result
		err := lane.Go(lc.c, func() { r = lc.ex.Run(op, lc.progressOf(op)) }, func(*evloop.Conn) { lc.done(op, r) })
		if err != nil { // the lane is closed: the server is gone
			lc.running--
			lc.ses.OnDone(op.ID, session.Result{Err: errors.Join(session.ErrUnserved, err)})
		}
	}
}

// mayRunBeside tells that op may run beside others of this connection, and that few do.
func (lc *loopConn) mayRunBeside(op *session.Operation) bool {
	procs := lc.d.srv.procs
	return !lc.dead && lc.running == lc.beside && lc.beside < procs && lc.d.beside < 4*procs && lc.ex.Parallel(op)
}

func (lc *loopConn) runBeside(op session.Operation) {
	lc.running++
	lc.beside++
	lc.d.beside++
	go func() {
		r := lc.ex.Run(op, nil)
		_ = lc.d.loop.Post(func() { // the loop runs until every connection is forgotten
			lc.beside--
			lc.d.beside--
			lc.done(op, r)
		})
	}()
}

// progressOf reports a VERIFY from the worker's goroutine.
func (lc *loopConn) progressOf(op session.Operation) func(session.Result) {
	return func(r session.Result) {
		_ = lc.d.loop.Post(func() {
			lc.ses.OnDone(op.ID, r)
			lc.act()
		})
	}
}

func (lc *loopConn) done(op session.Operation, r session.Result) {
	lc.running--
	if lc.leaves(op, r) {
		return
	}
	lc.ses.OnDone(op.ID, r)
	lc.changed()
}

// next is the index of the operation to be started; -1 none. Order holds inside of a stream.
func (lc *loopConn) next() int {
	if len(lc.jobs) == 0 {
		return -1
	}
	if lc.dead || lc.jobs[0].Job != session.ReadCell || !lc.full() {
		return 0
	}
	held := map[uint32]bool{}
	for i := range lc.jobs {
		op := &lc.jobs[i]
		if op.Job == session.ReadCell {
			held[op.Stream] = true
		} else if !held[op.Stream] {
			return i
		}
	}
	return -1
}

// full tells that no stored cell should be read now, and sees that start is called when one may.
func (lc *loopConn) full() bool {
	if lc.c.Queued() >= cellsHigh {
		return true // a sent cell calls
	}
	if lc.d.srv.pool.Half() {
		lc.await(&lc.d.srv.pool, true)
		return true
	}
	return false
}

// finish gives up what the connection held, when it is closed and nothing runs.
func (lc *loopConn) finish() {
	if !lc.dead || lc.running > 0 || len(lc.jobs) > 0 || lc.ticket == nil {
		return
	}
	t := lc.ticket
	lc.ticket = nil
	if lc.ex.Idle() {
		lc.d.srv.forget(lc, t)
		return
	}
	forget := func(*evloop.Conn) { lc.d.srv.forget(lc, t) }
	if err := lc.d.bulk.Go(lc.c, lc.ex.Close, forget); err != nil {
		lc.ex.Close()
		forget(nil)
	}
}
