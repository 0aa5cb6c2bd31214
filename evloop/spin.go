//go:build linux || darwin || freebsd

package evloop

import "time"

// In a fast transfer the next bytes come some 10 µs after the last: being
// woken by them costs sender and receiver more than asking on. While a
// ReadInto is in progress the loop does so, and from napAfter on it naps
// between any two, for bulkTime in all, before it sleeps: a sender that is not
// that fast leaves the processor free, more arrives for the next read, and
// nobody need be woken. With Config.Spin the loop asks on for spinTime after
// small messages too, ceding its processor, unless other goroutines have work for it. A sender that
// is slower than that must not keep a processor busy: each spin that was for
// nothing doubles how often the next are left out, of either kind by itself.
const (
	spinTime  = int64(50 * time.Microsecond)
	bulkTime  = int64(150 * time.Microsecond)
	napAfter  = int64(20 * time.Microsecond)
	napTime   = 20 * time.Microsecond // and what the system adds: 50 µs on Linux
	spinTries = 512                   // the bound where a clock stands still
	spinSkips = 6                     // at most 2^6 - 1 spins are left out
)

// spinner is how well spinning has paid lately.
type spinner struct {
	missed uint8 // spins for nothing in a row, at most spinSkips
	skip   uint8 // spins to be left out
}

// worth tells whether to spin now.
func (s *spinner) worth() bool {
	if s.skip > 0 {
		s.skip--
		return false
	}
	return true
}

func (s *spinner) ended(found bool) {
	if found {
		s.missed = 0
		return
	}
	s.missed = min(s.missed+1, spinSkips)
	s.skip = 1<<s.missed - 1
}

// spin asks for events for a moment, if a payload or, with Config.Spin, any
// message may be on its way and spinning pays. It returns early when something
// was posted.
func (l *Loop) spin() (int, error) {
	s, length := &l.bulkSpin, bulkTime
	if l.sinks == 0 {
		s, length = &l.smallSpin, spinTime
		if !l.cfg.Spin || l.yield || l.jobs > 0 {
			return 0, nil
		}
	}
	if !s.worth() {
		return 0, nil
	}
	l.stats.Spins++
	start := l.clock()
	for try := 0; try < spinTries && !l.waking.Load(); try++ {
		if l.sinks == 0 {
			l.cede()
		}
		if n, err := l.p.Wait(l.ev, 0); n > 0 || err != nil {
			s.ended(true)
			return n, err
		}
		asked := l.clock() - start
		if asked >= length {
			break
		}
		if l.sinks > 0 && asked >= napAfter {
			l.stats.Naps++
			l.k.Nap(napTime)
		}
	}
	if l.waking.Load() {
		return 0, nil
	}
	l.stats.SpinsMissed++
	s.ended(false)
	return 0, nil
}
