// Package pace says how much credit a receiver of cells lets its peer have, spec/WIRE.md §6: as much as the link between them can use.
package pace

import (
	"time"

	"ndferry/wire"
)

// Link is the time that a packet takes to the peer and back when nothing is queued; ok is false while nobody knows.
type Link func() (delay time.Duration, ok bool)

// Config is what a Window is made with. First must be at least [wire.MinCredit].
type Config struct {
	First uint64           // credit of HELLO, raw bytes, and the size while link or rate are not known
	Most  uint64           // the largest size, at least First
	Link  Link             // nil: not known
	Now   func() time.Time // default time.Now
}

// Window sizes what the peer may have been granted and not yet delivered. A control message waits for all of that, so it is little: what
// lets the peer send a cell while another arrives, and twice what the link holds, or four times while that grows. It is never so little that the peer, when all
// has arrived, could not send one more cell. Whoever owns the session or the client owns it.
type Window struct {
	cfg   Config
	since time.Time     // when counting of bytes began; zero: it did not
	bytes uint64        // that arrived since
	rate  float64       // bytes a second; the best interval, which older ones count less and less
	delay time.Duration // of the link, at the end of the last interval
	known bool          // both are
	grows bool          // the rate did, in the last interval: a sender that begins doubles what it sends in each delay
}

// New returns a window of size First.
func New(cfg Config) *Window {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Window{cfg: cfg}
}

const (
	fade   = 7.0 / 8 // what is left of the rate when an interval was slower
	growth = 5.0 / 4 // of the rate in an interval, from which on it grows
)

// Arrived is told of n bytes of credit that the peer has used and that are here.
func (w *Window) Arrived(n uint64) {
	if w.cfg.Link == nil {
		return
	}
	now := w.cfg.Now()
	if w.since.IsZero() {
		w.since = now
		return
	}
	w.bytes += n
	took := now.Sub(w.since)
	if took < max(wire.PaceInterval, w.delay) {
		return
	}
	rate := float64(w.bytes) / took.Seconds()
	w.grows = rate > w.rate*growth
	w.rate = max(rate, w.rate*fade)
	w.delay, w.known = w.cfg.Link()
	w.since, w.bytes = now, 0
}

// Size is how much the peer may have, and how much less than that is worth a CREDIT, when the largest cell that may come next costs cell.
// With cell 0 nobody knows what comes: any cell.
func (w *Window) Size(cell uint64) (size, step uint64) {
	if cell == 0 || !w.known {
		return w.cfg.First, wire.CreditStep
	}
	ahead := max(cell, wire.CreditAhead)
	size = cell + ahead
	link := 2 * w.rate * w.delay.Seconds()
	if w.grows {
		link *= 2
	}
	if link < float64(w.cfg.Most) {
		size += uint64(link)
	} else {
		size = w.cfg.Most
	}
	return max(min(size, w.cfg.Most), cell+ahead), ahead / 2
}
