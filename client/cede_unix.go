//go:build unix

package client

import "time"

// A server on the same processor can only answer when the client lets it run, and Linux keeps two that wake each other on one processor
// while another is idle. So the client cedes its processor while it asks: that is less than sleeping and being woken, and two that are both
// ready to run are moved apart. But Linux lets a thread that ceded wait for a whole slice of those that compute, and where it had to wait
// long nobody cedes for a while.
const (
	cededLong   = 200 * time.Microsecond // longer than an answer takes
	cedePause   = 2 * time.Millisecond   // the first; each further one is twice as long
	cedeLongest = 256 * time.Millisecond
	cedeQuick   = 64 // times in a row that did not take long end the doubling
)

// ceder says when to cede. The zero value may.
type ceder struct {
	after time.Time
	pause time.Duration
	quick int
}

// may tells whether to cede now.
func (c *ceder) may(now time.Time) bool { return !now.Before(c.after) }

// took is told when the processor was ceded and when it was back.
func (c *ceder) took(from, to time.Time) {
	if to.Sub(from) < cededLong {
		if c.quick++; c.quick >= cedeQuick {
			c.pause = 0
		}
		return
	}
	c.quick = 0
	c.pause = min(max(2*c.pause, cedePause), cedeLongest)
	c.after = to.Add(c.pause)
}
