package worker

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/internal/handover"
	"ndferry/internal/session"
	"ndferry/wire"
)

// leaves tells that the connection is to go to another worker because of what an operation said, and sees that it does: see depart.go.
func (lc *loopConn) leaves(op session.Operation, r session.Result) bool {
	if lc.dead || lc.closing {
		return false
	}
	to := lc.d.srv.destination(lc.meta, lc.ses, op, r)
	if to == 0 {
		return false
	}
	d := departure{to, op, r}
	return lc.d.loop.Post(func() { lc.depart(d) }) == nil // when the lane has done its accounts
}

// depart lets the connection go, or tells the session of what was to be the reason.
func (lc *loopConn) depart(d departure) {
	err := errors.New("worker: something else is open on the connection")
	free := lc.phase == atHeader || lc.phase == waiting
	if free && !lc.dead && !lc.closing && lc.running == 0 && len(lc.jobs) == 0 && lc.reserved == 0 && !lc.paused && lc.ses.Alone(d.op.Stream) {
		if err = lc.goTo(d); err == nil {
			return
		}
	}
	lc.d.srv.cfg.Log.Debug("connection stays", "err", err)
	lc.ses.OnDone(d.op.ID, d.result)
	lc.changed()
}

// goTo takes the connection out of the loop and gives it to the master. An error means that it is here still.
func (lc *loopConn) goTo(d departure) error {
	state, err := lc.ses.Export()
	if err != nil {
		return err
	}
	m := *lc.meta
	m.Hops++
	m.State = state
	if lc.phase == waiting { // its header was taken, its frame did not begin
		m.Preread = wire.AppendHeader(nil, lc.header)
	}
	if len(m.State)+len(m.Preread)+lc.c.Buffered() > handover.MaxCarry {
		return handover.ErrFrame
	}
	out, err := lc.c.Detach()
	if err != nil {
		return err
	}
	// Nobody but us has the connection from here on.
	for sent := out.Unsent; len(sent) > 0; {
		n, err := unix.Write(out.FD, sent)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // a peer that has not even taken our HELLO
			_ = unix.Shutdown(out.FD, unix.SHUT_RDWR)
			break
		}
		sent = sent[n:]
	}
	m.Preread = append(m.Preread, out.Unread...)
	if err := lc.d.srv.giveFD(out.FD, d.to, m); err != nil {
		lc.d.srv.cfg.Log.Warn("a connection that belongs to another worker was ended: it could not be returned", "to", d.to, "err", err)
	}
	lc.dead = true
	lc.phase = atHeader
	lc.frame.stop()
	lc.stall.stop()
	if lc.timer != nil {
		lc.timer.Stop()
	}
	lc.finish()
	return nil
}

// thaw goes on with the session that another worker let go, and tells whether it can.
func (lc *loopConn) thaw(cfg session.Config) bool {
	var err error
	lc.ses, err = session.Import(cfg, lc.ex, time.Now(), lc.state)
	lc.state = nil
	if err != nil {
		lc.d.srv.cfg.Log.Error("a connection from another worker", "err", err)
		lc.c.Abort(err)
		return false
	}
	lc.greets()
	return true
}
