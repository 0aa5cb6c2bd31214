//go:build linux

package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"ndferry/fdpass"
)

// Run takes what the master offers and gives it to handle until the channel ends at either side, which nil means, or breaks, or ctx ends. After DRAIN,
// of which drain is told once, everything is refused.
func (w *Worker) Run(ctx context.Context, handle Handler, drain func(time.Duration)) error {
	for {
		f, files, err := w.ch.Recv(ctx)
		ended, err := w.received(ctx, f, files, err, handle, drain)
		if files != nil {
			files.Discard()
		}
		if err != nil {
			_ = w.ch.Abort(err)
		}
		if ended {
			return err
		}
	}
}

// Attach is for who has a loop: it takes the channel out of the runtime's poller and returns the descriptor, lent, that is readable when
// Turn has something to do. after calls a function once, later, on the goroutine that calls Turn.
func (w *Worker) Attach(after func(time.Duration, func())) (fd int, err error) {
	if err := w.ch.Unpoll(); err != nil {
		return -1, err
	}
	w.after = after
	return w.ch.conn.FD(), nil
}

// Turn is a piece of Run: it takes a frame, if there is one, and waits for nothing. When ended is true the channel is of no use any more, with
// err if that is not in order, and the descriptor is about to be closed.
func (w *Worker) Turn(handle Handler, drain func(time.Duration)) (ended bool, err error) {
	f, files, ok, err := w.ch.TryRecv()
	if !ok {
		return false, nil
	}
	ended, err = w.received(context.Background(), f, files, err, handle, drain)
	if files != nil {
		files.Abandon()
	}
	if err != nil {
		go func() { _ = w.ch.Abort(err) }() // it may have to wait
	}
	return ended, err
}

// received does what a frame says, or what the error of receiving means.
func (w *Worker) received(ctx context.Context, f Frame, files *fdpass.Files, err error, handle Handler, drain func(time.Duration)) (ended bool, _ error) {
	switch {
	case errors.Is(err, fdpass.ErrTruncated):
		// The frame is gone with its descriptors. The master has its copies, and finds in the words what was not taken.
		err = w.tell(ctx, KindRefuse, &Refuse{Reason: ReasonTruncated, Text: err.Error()})
		return err != nil, err
	case errors.Is(err, fdpass.ErrPeerGone), errors.Is(err, net.ErrClosed):
		return true, nil
	case err != nil:
		return true, err
	}
	switch f.Kind {
	case KindOffer:
		err = w.offered(ctx, f, files, handle)
	case KindDrain:
		var d Drain
		if err = d.ParseBody(f.Body); err == nil {
			w.draining.Store(true)
			w.told.Do(func() { drain(d.Time) })
		}
	case KindGoodbye:
		return true, nil
	default:
		err = fmt.Errorf("handover: %w: %v to a worker", ErrFrame, f.Kind)
	}
	return err != nil, err
}

// Drain refuses what is offered from now on.
func (w *Worker) Drain() { w.draining.Store(true) }

// offered takes the connections of an OFFER.
func (w *Worker) offered(ctx context.Context, f Frame, files *fdpass.Files, handle Handler) (err error) {
	if w.offers, err = ParseOffers(f.Body, w.offers); err != nil {
		return err
	}
	if len(w.offers) != files.Len() {
		return fmt.Errorf("handover: %w: %d for %d connections", ErrFiles, files.Len(), len(w.offers))
	}
	for i := range w.offers {
		t := &Conn{Offer: w.offers[i], files: files, index: i}
		if reason, err := w.begin(t, handle); err != nil {
			// The words say what became of it; this says why.
			if err := w.tell(ctx, KindRefuse, &Refuse{Sequence: t.Sequence, Reason: reason, Text: err.Error()}); err != nil {
				return err
			}
		}
		w.answer(ctx, t.Sequence)
	}
	return nil
}

// begin takes, touches and serves one connection. What it does not is refused, and why.
func (w *Worker) begin(t *Conn, handle Handler) (Reason, error) {
	refuse := func(r Reason, err error) (Reason, error) {
		w.words.Refuse(t.Slot, t.Sequence)
		return r, err
	}
	if err := w.cfg.Step.At(StepReceived); err != nil {
		return refuse(ReasonFailed, err)
	}
	if w.draining.Load() {
		return refuse(ReasonDraining, errors.New("this worker takes nothing new"))
	}
	if err := CheckConn(t.files.Peek(t.index), t.Cookie); err != nil {
		return refuse(ReasonMetadata, err)
	}
	if !w.words.Take(t.Slot, t.Sequence) {
		return 0, nil // revoked, or of another time: not ours
	}
	if err := w.cfg.Step.At(StepTaken); err != nil {
		return refuse(ReasonFailed, err)
	}
	if !w.words.Touch(t.Slot, t.Sequence) {
		return 0, nil
	}
	if t.Hops == 0 {
		w.words.Latency(time.Duration(time.Now().UnixNano() - t.Accepted))
	}
	err := handle(t)
	if err == nil {
		err = w.cfg.Step.At(StepServed)
	}
	if err != nil {
		return ReasonFailed, err
	}
	return 0, nil
}

// answer counts an offer as answered, and sees that the master is told: at once by the table, if it looks there.
func (w *Worker) answer(ctx context.Context, seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = max(w.answered, seq)
	w.words.SetAnswered(w.answered)
	looks := w.hello.Features&FeatureAnswered != 0
	after, late := w.reported+ReportAfter, ReportTime
	if looks {
		after, late = w.words.Wanted(), ReportLate
	}
	switch {
	case w.answered >= after && w.reported < after, w.draining.Load(): // or it would be offered again what it refuses
		w.report(ctx)
	case !w.due:
		w.due, w.settled = true, w.words.Settled()
		w.later(late, w.overdue)
	}
}

func (w *Worker) later(d time.Duration, f func()) {
	if w.after != nil {
		w.after(d, f)
		return
	}
	time.AfterFunc(d, f)
}

func (w *Worker) overdue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = false
	settled := uint64(0)
	if w.answered > w.reported {
		settled = w.words.Settled()
	}
	switch {
	case w.answered <= max(w.reported, settled):
	case settled > w.settled: // it has looked meanwhile, and will again
		w.due, w.settled = true, settled
		w.later(ReportLate, w.overdue)
	default:
		w.report(context.Background())
	}
}

// report tells the master how things stand. Called with mu held.
func (w *Worker) report(ctx context.Context) {
	r := &Report{Answered: w.answered, Live: uint32(w.words.Live()), Credit: uint32(w.cfg.Credit), Draining: w.draining.Load()}
	if w.after == nil {
		_ = w.ch.Send(ctx, KindReport, r) // that it fails is seen where frames are received
		w.reported = w.answered
		return
	}
	switch ok, err := w.ch.TrySend(KindReport, r); {
	case ok, err != nil:
		w.reported = w.answered
	case !w.due: // the next one says it, too
		w.due = true
		w.later(ReportTime, w.overdue)
	}
}

// tell sends a frame that explains something. On a loop, when the master's queue is full, it is not sent.
func (w *Worker) tell(ctx context.Context, kind Kind, m Message) error {
	if w.after == nil {
		return w.ch.Send(ctx, kind, m)
	}
	_, err := w.ch.TrySend(kind, m)
	return err
}
