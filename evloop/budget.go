//go:build linux || darwin || freebsd

package evloop

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the memory that connections of any number of loops buffer
// together: unread bytes and queued output. When it is exhausted, the loops
// stop reading from connections that hold some of it, until an eighth is
// free again; a connection that holds none goes on. What pausing cannot free,
// halves of messages that never end, is freed by force: if the budget stays
// exhausted for 5 s the connection that holds most is closed with ErrBudget.
//
// All methods may be called from any goroutine.
type Budget struct {
	limit int64
	used  atomic.Int64
	tight atomic.Bool // some loop waits

	mu      sync.Mutex
	waiting []*Loop // guarded by mu
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used returns how many bytes are in use. It may exceed the limit by one
// read per connection.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit returns the limit in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Reserve takes n bytes for memory that the caller manages itself, and
// reports whether they were free.
func (b *Budget) Reserve(n int64) bool {
	if b.used.Add(n) <= b.limit {
		return true
	}
	b.Release(n)
	return false
}

// Release gives n reserved bytes back.
func (b *Budget) Release(n int64) {
	left := b.used.Add(-n)
	if left <= b.limit-b.limit/8 && b.tight.Load() && b.tight.CompareAndSwap(true, false) {
		b.mu.Lock()
		loops := b.waiting
		b.waiting = nil
		b.mu.Unlock()
		for _, l := range loops {
			_ = l.Post(l.feedStarved)
		}
	}
}

func (b *Budget) wait(l *Loop) {
	b.mu.Lock()
	b.waiting = append(b.waiting, l)
	b.mu.Unlock()
	b.tight.Store(true)
	b.Release(0) // in case it became free in between
}

// account tells the budget what the connection holds now.
func (c *Conn) account() {
	b := c.loop.cfg.Budget
	if b == nil {
		return
	}
	held := int64(len(c.in)) + c.out.size()
	if c.state == stClosed {
		held = 0
	}
	if d := held - c.charged; d > 0 {
		b.used.Add(d)
	} else if d < 0 {
		b.Release(-d)
	}
	c.charged = held
	if held > 0 && b.used.Load() > b.limit && c.flags&flPauseBudget == 0 {
		c.setPause(flPauseBudget)
		c.flags &^= flMarked // settle applies the interest after this
		c.loop.starve(c)
	}
}

func (l *Loop) starve(c *Conn) {
	l.starved = append(l.starved, c)
	if len(l.starved) == 1 {
		l.evictTimer = l.After(evictAfter, l.evict)
		l.cfg.Budget.wait(l)
	}
}

// feedStarved lets paused connections read again.
func (l *Loop) feedStarved() {
	list := l.starved
	l.starved = nil
	if l.evictTimer != nil {
		l.evictTimer.Stop()
	}
	for _, c := range list {
		if c.state != stClosed {
			c.clearPause(flPauseBudget)
		}
	}
}

// evict closes the connection that holds most, if the budget has not
// recovered by pausing.
func (l *Loop) evict() {
	b := l.cfg.Budget
	if len(l.starved) == 0 {
		return
	}
	if b.used.Load() <= b.limit {
		l.feedStarved()
		return
	}
	var worst *Conn
	for _, c := range l.starved {
		if c.state != stClosed && (worst == nil || c.charged > worst.charged) {
			worst = c
		}
	}
	if worst != nil {
		l.stats.Evicted++
		l.cfg.Log.Warn("memory budget exhausted: closing the connection that holds most", "peer", worst.peerString(), "bytes", worst.charged, "limit", b.limit)
		worst.finish(fmt.Errorf("evloop: %s held %d bytes: %w", worst.peerString(), worst.charged, ErrBudget))
	}
	l.evictTimer = l.After(100*time.Millisecond, l.evict)
}

// quota counts the open connections of a loop or a group, for MaxConns.
type quota struct {
	max   int64 // immutable
	used  atomic.Int64
	mu    sync.Mutex
	stuck []*Listener // guarded by mu
}

// take claims a place and reports whether there was one.
func (q *quota) take() bool {
	if q.used.Add(1) <= q.max || q.max == 0 {
		return true
	}
	q.used.Add(-1)
	return false
}

// claim counts a connection that no listener accepted.
func (q *quota) claim() { q.used.Add(1) }

func (q *quota) release() {
	if q.used.Add(-1); q.max == 0 {
		return
	}
	q.mu.Lock()
	list := q.stuck
	q.stuck = nil
	q.mu.Unlock()
	for _, ln := range list {
		_ = ln.loop.Post(ln.resume)
	}
}

// wait has ln resumed when a place is free.
func (q *quota) wait(ln *Listener) {
	q.mu.Lock()
	q.stuck = append(q.stuck, ln)
	q.mu.Unlock()
	if q.used.Load() < q.max { // freed in between
		q.used.Add(1)
		q.release()
	}
}
