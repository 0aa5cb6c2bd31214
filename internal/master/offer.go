//go:build linux

package master

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass"
	"ndferry/internal/handover"
)

// custody is a connection that no worker has answered for. Its descriptor is the master's copy; whether a worker owns the
// connection meanwhile is in the word of its offer.
type custody struct {
	handover.Meta
	m  *Master
	fd int // -1 when closed
	to int // the worker that is to have it; 0: any
}

// release closes the master's copy of what a worker owns.
func (c *custody) release() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// end ends a connection that nobody will serve.
func (c *custody) end() {
	if c.fd >= 0 {
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
		c.release()
	}
}

// offer is a custody that a worker was offered. Guarded by mu of the master.
type offer struct {
	*custody // nil: revoked, and elsewhere now
	seq      uint64
	slot     uint32
	at       time.Time
	sent     bool // or tried
	lost     bool // the worker does not get it, and so never answers
}

// room waits until a connection could be dispatched and tells how many could; 0 when the master stops.
func (m *Master) room() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	for waited := false; ; waited = true {
		m.look()
		if m.stopping {
			return 0
		}
		room, full := 0, false
		for _, w := range m.workers {
			if w.open() {
				room += w.room()
			}
			full = full || m.cfg.PerWorker > 0 && w.load() >= m.cfg.PerWorker
		}
		if m.cfg.Conns > 0 {
			left := m.cfg.Conns - m.load()
			full = full || left <= 0
			room = min(room, left)
		}
		if room > 0 && len(m.waiting) == 0 {
			if waited {
				m.want(false)
			}
			return min(room, handover.MaxOffers)
		}
		if full && len(m.waiting) == 0 { // that a connection ends is seen in the words alone
			m.mu.Unlock()
			time.Sleep(2 * time.Millisecond)
			m.mu.Lock()
			continue
		}
		m.want(true)
		if !m.look() { // else it was answered before the worker knew
			m.changed.Wait()
		}
	}
}

// look settles what workers have answered, as their tables say, sends elsewhere what is to go there, and tells whether there was
// anything. Called with mu held, which it gives up meanwhile when something has to be sent.
func (m *Master) look() bool {
	var again []*custody
	any := false
	for _, w := range m.workers {
		if w.state != ready || len(w.offers) == 0 {
			continue
		}
		if seq := w.words.Answered(); seq > w.answered && seq <= w.seq { // what is none is for REPORT to say
			again = append(again, w.answers(seq)...)
			any = true
		}
	}
	if len(again) > 0 {
		busy := m.dispatch(again)
		m.mu.Unlock()
		flush(busy)
		m.mu.Lock()
	}
	return any
}

// want asks workers for a REPORT when they have answered half of what they have, or asks them no more. Called with mu held.
func (m *Master) want(on bool) {
	for _, w := range m.workers {
		switch {
		case w.state != ready:
		case on:
			w.words.Want(w.answered + uint64(w.unanswered()+1)/2)
		default:
			w.words.Want(0)
		}
	}
}

// load counts the connections that workers have or are offered. Called with mu held.
func (m *Master) load() int {
	n := len(m.waiting)
	for _, w := range m.workers {
		n += w.load()
	}
	return n
}

// enter dispatches connections that were accepted.
func (m *Master) enter(batch []*custody) {
	if len(batch) == 0 {
		return
	}
	m.mu.Lock()
	m.counts.accepted += uint64(len(batch))
	busy := m.dispatch(batch)
	m.mu.Unlock()
	flush(busy)
}

// dispatch assigns connections to workers, behind those that wait, and returns the workers that have something to send. Called with mu held.
func (m *Master) dispatch(batch []*custody) (busy []*worker) {
	list := append(m.waiting, batch...)
	m.waiting = nil
	for _, c := range list {
		if m.stopping && c.to == 0 && len(c.Preread) == 0 {
			// Nobody takes anything new.
			c.end()
			continue
		}
		w := m.choose(c)
		if w == nil && m.stopping {
			c.end() // nobody will have it
			continue
		}
		if w == nil {
			m.waiting = append(m.waiting, c)
			continue
		}
		w.assign(c)
		busy = append(busy, w)
	}
	return busy
}

// choose returns the worker that is to have a connection, nil when it has to wait. Called with mu held.
func (m *Master) choose(c *custody) *worker {
	if c.to > 0 && c.to <= len(m.workers) {
		if w := m.workers[c.to-1]; w.state == ready && !w.stalled && !w.draining {
			if w.open() {
				return w
			}
			if w.unanswered() >= w.credit {
				return nil // it answers soon, or is stalled soon
			}
		}
		// It is gone, and what it owned is anybody's; or it is full, and the client will hear so.
	}
	var best *worker
	at, n := 0, len(m.workers)
	for i := range n {
		w := m.workers[(m.next+i)%n]
		if w.open() && (best == nil || m.cfg.Dispatch == LeastLoaded && w.load() < best.load()) {
			best, at = w, (m.next+i)%n
			if m.cfg.Dispatch == RoundRobin {
				break
			}
		}
	}
	if best != nil {
		m.next = (at + 1) % n
	}
	return best
}

// open tells whether the worker may be offered something. Called with mu held.
func (w *worker) open() bool {
	return w.state == ready && !w.stalled && !w.draining && w.room() > 0
}

// room is how many connections the worker may be offered. Called with mu held.
func (w *worker) room() int {
	room := w.credit - w.unanswered()
	if w.m.cfg.PerWorker > 0 {
		room = min(room, w.m.cfg.PerWorker-w.load())
	}
	return room
}

// unanswered counts the offers that the worker has not answered, whether they were revoked or not: they are in its queue. Called with mu held.
func (w *worker) unanswered() int { return int(w.seq - w.answered) }

// load is how many connections the worker has or is offered. Called with mu held.
func (w *worker) load() int {
	if w.words == nil {
		return 0
	}
	_, closed := w.words.Counts()
	return max(int(w.assigned-min(closed, w.assigned)), 0)
}

// assign makes an offer of a connection. Called with mu held.
func (w *worker) assign(c *custody) {
	w.seq++
	o := &offer{custody: c, seq: w.seq, slot: uint32(w.seq % uint64(w.words.Slots())), at: time.Now()}
	w.words.Offer(o.slot, o.seq)
	w.offers = append(w.offers, o)
	w.outbox = append(w.outbox, o)
	w.assigned++
	w.counts.offered++
	w.m.counts.offered++
}

func flush(busy []*worker) {
	for _, w := range busy {
		w.flush()
	}
}

// sendTime bounds the sending of an offer. What is not sent then is revoked like what is not taken.
const sendTime = 250 * time.Millisecond

// flush sends what is in the outbox, unless another goroutine does, which then sends this too.
func (w *worker) flush() {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.sending {
		return
	}
	w.sending = true
	defer func() { w.sending = false }()
	for len(w.outbox) > 0 {
		body, files := w.body[:0], w.files[:0]
		var batch []*offer
		for _, o := range w.outbox {
			if o.custody == nil { // it was revoked
				o.lost = true
				batch = append(batch, o)
				continue
			}
			h := handover.Offer{Sequence: o.seq, Slot: o.slot, Meta: o.Meta}
			if len(files) == handover.MaxOffers || len(body)+h.Size() > handover.MaxFrame-64 {
				break
			}
			body = handover.AppendOffer(body, &h)
			files = append(files, o.fd)
			batch = append(batch, o)
		}
		w.outbox, w.body, w.files = w.outbox[len(batch):], body, files
		ch := w.ch
		m.mu.Unlock()
		passed, err := w.send(ch, body, files)
		m.mu.Lock()
		for _, o := range batch {
			o.sent = true
			o.lost = o.lost || !passed
		}
		if err != nil && w.ch == ch {
			m.cfg.Log.Debug("offer not sent", "worker", w.index, "err", err)
		}
	}
	w.outbox = nil
}

// send passes offers, and tells whether the worker gets them.
func (w *worker) send(ch *handover.Channel, body []byte, files []int) (passed bool, err error) {
	if len(files) == 0 || ch == nil {
		return false, nil
	}
	if err := w.m.cfg.Step.At(handover.StepOffer); err != nil {
		return false, err
	}
	ok, err := ch.TrySend(handover.KindOffer, handover.Raw(body), files...)
	if err == nil && !ok { // a context costs more than all of that
		ctx, cancel := context.WithTimeout(context.Background(), sendTime)
		defer cancel()
		lent := make([]syscall.Conn, len(files))
		for i, fd := range files {
			lent[i] = fdpass.FD(fd)
		}
		err = ch.Send(ctx, handover.KindOffer, handover.Raw(body), lent...)
	}
	if err != nil {
		return false, err
	}
	return true, w.m.cfg.Step.At(handover.StepOffered)
}

// settle looks at the words of offers that the worker has answered, and returns the connections that are to go elsewhere. Called with mu held.
func (w *worker) settle(answered uint64) (again []*custody) {
	n := 0
	for ; n < len(w.offers) && w.offers[n].seq <= answered; n++ {
		if c := w.outcome(w.offers[n], false); c != nil {
			again = append(again, c)
		}
		w.offers[n] = nil
	}
	w.offers = w.offers[n:]
	w.passOver()
	return again
}

// passOver counts what the worker never got, and what is elsewhere by now, as answered: nothing else would end its being stalled over that.
// Called with mu held.
func (w *worker) passOver() {
	n := 0
	for ; n < len(w.offers) && w.offers[n].lost && w.offers[n].custody == nil; n++ {
		w.answered = w.offers[n].seq
	}
	if n == 0 {
		return
	}
	w.offers = w.offers[n:]
	w.words.SetSettled(w.answered)
	if w.stalled && len(w.offers) == 0 {
		w.stalled = false
		w.m.cfg.Log.Info("a worker never got what it did not answer", "worker", w.index, "pid", w.pid)
	}
}

// outcome ends an offer: the worker has it, or the connection that is returned goes elsewhere. Called with mu held.
func (w *worker) outcome(o *offer, dead bool) *custody {
	c := o.custody
	if c == nil {
		return nil
	}
	o.custody = nil
	switch s := w.words.State(o.slot, o.seq); {
	case s == handover.Touched && dead:
		c.end() // if it has not ended
		return nil
	case s == handover.Touched, s == handover.Taken && !dead:
		if err := w.m.cfg.Step.At(handover.StepAnswered); err != nil {
			w.m.cfg.Log.Error("master: answered", "err", err)
		}
		w.counts.taken++
		c.release()
		return nil
	case s == handover.Refused:
		w.counts.refused++
		w.m.counts.refused++
	case s == handover.Offered && !w.words.Revoke(o.slot, o.seq):
		return w.outcome(&offer{custody: c, seq: o.seq, slot: o.slot}, dead) // it has changed meanwhile
	case s == handover.Offered, s == handover.Taken, s == handover.Revoked:
	default:
		// The worker wrote what it may not: whoever owns this is not known, so nobody does.
		w.m.cfg.Log.Error("a worker's word is damaged", "worker", w.index, "state", s)
		c.end()
		return nil
	}
	w.assigned--
	w.m.counts.redispatched++
	return c
}

// revokeStalled takes back what workers have not answered in time.
func (m *Master) revokeStalled() {
	m.mu.Lock()
	var again []*custody
	m.look()
	late := time.Now().Add(-m.cfg.Take)
	for _, w := range m.workers {
		if w.state != ready || len(w.offers) == 0 || w.offers[0].at.After(late) {
			continue
		}
		if !w.stalled {
			w.stalled = true
			m.cfg.Log.Warn("a worker does not answer: it gets nothing new, and what it has not taken goes to others",
				"worker", w.index, "pid", w.pid, "unanswered", w.unanswered(), "take", m.cfg.Take)
		}
		again = append(again, w.revoke()...)
	}
	busy := m.dispatch(again)
	m.changed.Broadcast()
	m.mu.Unlock()
	flush(busy)
}
