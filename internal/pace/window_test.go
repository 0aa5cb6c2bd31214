package pace

import (
	"testing"
	"time"

	"ndferry/wire"
)

// rig is a window over a link of the test, with its clock.
type rig struct {
	*Window
	now   time.Time
	delay time.Duration
	known bool
}

func newRig() *rig {
	r := &rig{now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), known: true}
	r.Window = New(Config{
		First: wire.FirstCredit, Most: wire.FirstCredit, Now: func() time.Time { return r.now },
		Link: func() (time.Duration, bool) { return r.delay, r.known },
	})
	return r
}

// arrive has n bytes come, and time pass before them.
func (r *rig) arrive(n uint64, after time.Duration) {
	r.now = r.now.Add(after)
	r.Arrived(n)
}

func TestWindow(t *testing.T) {
	const mib = 1 << 20
	check := func(t *testing.T, r *rig, cell, size, step uint64) {
		t.Helper()
		if a, b := r.Size(cell); a != size || b != step {
			t.Errorf("cells of %d: size %d and step %d, want %d and %d", cell, a, b, size, step)
		}
	}
	t.Run("not measured", func(t *testing.T) {
		r := newRig()
		check(t, r, 4*mib, wire.FirstCredit, wire.CreditStep)
		r.arrive(4*mib, 0)
		r.arrive(4*mib, wire.PaceInterval-1)
		check(t, r, 4*mib, wire.FirstCredit, wire.CreditStep)
	})
	t.Run("link not known", func(t *testing.T) {
		r := newRig()
		r.known = false
		r.arrive(4*mib, 0)
		r.arrive(4*mib, time.Second)
		check(t, r, 4*mib, wire.FirstCredit, wire.CreditStep)
		w := New(Config{First: wire.FirstCredit, Most: wire.FirstCredit})
		w.Arrived(4 * mib)
		if size, _ := w.Size(4 * mib); size != wire.FirstCredit {
			t.Errorf("without link: size %d", size)
		}
	})
	t.Run("one host", func(t *testing.T) {
		r := newRig()
		r.arrive(4*mib, 0)
		r.arrive(40*mib, 10*time.Millisecond)
		check(t, r, 4*mib, 8*mib, 2*mib)
		check(t, r, wire.MaxCell, 2*wire.MaxCell, wire.MaxCell/2)
		check(t, r, wire.MinCost, wire.MinCost+wire.CreditAhead, wire.CreditAhead/2)
		check(t, r, 0, wire.FirstCredit, wire.CreditStep) // any cell may come
	})
	t.Run("long link", func(t *testing.T) {
		r := newRig()
		r.delay = 50 * time.Millisecond
		r.arrive(4*mib, 0)
		r.arrive(5*mib, 50*time.Millisecond) // 100 MiB/s, of which the link holds 5
		check(t, r, 4*mib, 28*mib, 2*mib)    // more than nothing
		r.arrive(5*mib, 50*time.Millisecond)
		check(t, r, 4*mib, 18*mib, 2*mib)
		r.arrive(6*mib, 50*time.Millisecond)
		check(t, r, 4*mib, 20*mib, 2*mib)
		r.arrive(100*mib, 50*time.Millisecond)
		check(t, r, 4*mib, wire.FirstCredit, 2*mib)
	})
	t.Run("a pause", func(t *testing.T) {
		r := newRig()
		r.delay = 50 * time.Millisecond
		r.arrive(4*mib, 0)
		r.arrive(8*mib, 50*time.Millisecond)
		r.arrive(8*mib, time.Hour)
		check(t, r, 4*mib, 8*mib+14*mib, 2*mib) // an eighth less, however long it was
		for range 300 {
			r.arrive(0, 50*time.Millisecond)
		}
		check(t, r, 4*mib, 8*mib, 2*mib)
	})
}

// TestWindow_next: whatever was measured, a peer of which all has arrived has the credit of one more cell, since less than a step is kept from it,
// and never more than the receiver would ever give.
func TestWindow_next(t *testing.T) {
	for delay := time.Duration(0); delay < time.Second; delay = 2*delay + time.Microsecond {
		for rate := uint64(1); rate < 1<<30; rate *= 8 {
			r := newRig()
			r.delay = delay
			r.arrive(1, 0)
			r.arrive(rate, wire.PaceInterval)
			for cell := uint64(wire.MinCost); cell <= wire.MaxCell; cell += 1<<18 - 1 {
				if size, step := r.Size(cell); size-step < cell || step == 0 || size > wire.FirstCredit {
					t.Fatalf("cells of %d, %v, %d bytes in %v: size %d, step %d", cell, delay, rate, wire.PaceInterval, size, step)
				}
			}
		}
	}
}

// TestWindow_start: a sender that doubles what it sends in each round over a long link, as TCP does when it begins, is not held up by the window.
func TestWindow_start(t *testing.T) {
	const cell, full = 4 << 20, 100 << 20 // bytes that the link takes in a round
	r := newRig()
	r.cfg.Most = wire.MostCredit
	r.delay = 50 * time.Millisecond
	given, came := uint64(wire.FirstCredit), uint64(0)
	for round, rate := 0, uint64(14600); round < 30; round++ {
		n := min(rate, given-came)
		if n < min(rate, full) {
			t.Errorf("round %d: %d bytes of credit for %d", round, n, rate)
		}
		for range 100 { // pieces
			r.arrive(n/100, r.delay/100)
			came += n / 100
			if size, step := r.Size(cell); came+size >= given+step {
				given = came + size
			}
		}
		rate = min(2*rate, full)
	}
}
