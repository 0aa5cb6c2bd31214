//go:build linux || darwin || freebsd

package evloop

import "time"

// A sender that shares the loop's processor can only answer when the loop lets it run, and Linux keeps two that wake each other on one
// processor while another is idle. So the loop cedes its processor while it asks: that is less than sleeping and being woken, and two that
// are both ready to run are moved apart. But Linux lets a thread that ceded wait for a whole slice of those that compute, and where it had
// to wait long nobody cedes for a while.
const (
	cededLong   = int64(200 * time.Microsecond) // longer than an answer takes
	cedePause   = int64(2 * time.Millisecond)   // the first; each further one is twice as long
	cedeLongest = int64(256 * time.Millisecond)
	cedeQuick   = 64 // times in a row that did not take long end the doubling
)

// ceder says when to cede. It belongs to the loop's goroutine.
type ceder struct {
	after int64 // the loop's clock
	pause int64
	quick int
}

// cede lets other threads have the processor, unless that took long lately.
func (l *Loop) cede() {
	c, now := &l.cedes, l.clock()
	if now < c.after {
		return
	}
	l.k.Cede()
	end := l.clock()
	if end-now < cededLong {
		if c.quick++; c.quick >= cedeQuick {
			c.pause = 0
		}
		return
	}
	c.quick = 0
	c.pause = min(max(2*c.pause, cedePause), cedeLongest)
	c.after = end + c.pause
}
