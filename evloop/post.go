//go:build linux || darwin || freebsd

package evloop

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Post has f called on the loop's goroutine. Any goroutine may call it. It
// returns ErrClosed, and f is not called, when the loop has stopped.
func (l *Loop) Post(f func()) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fmt.Errorf("evloop: post: %w", ErrClosed)
	}
	l.posted = append(l.posted, f)
	wake := l.waking.CompareAndSwap(false, true) // one wake-up, however many posts
	if wake {
		l.wakers++
	}
	l.mu.Unlock()
	if !wake {
		return nil
	}
	// Not under mu: the loop may run at once, in this thread's place, and would find it taken.
	err := l.p.Wake()
	l.mu.Lock()
	l.wakers--
	l.mu.Unlock()
	return err
}

// awaitWakers waits until nobody uses the poller any more. The loop is closed.
func (l *Loop) awaitWakers() {
	for {
		l.mu.Lock()
		n := l.wakers
		l.mu.Unlock()
		if n == 0 {
			return
		}
		runtime.Gosched()
	}
}

// runPosted calls what other goroutines posted, at most a batch per turn.
func (l *Loop) runPosted() {
	if !l.waking.Load() {
		return
	}
	l.waking.Store(false) // before the queue is taken: a later Post wakes again
	l.mu.Lock()
	todo := l.posted
	if len(todo) > postedBatch {
		l.posted = todo[postedBatch:]
		todo = todo[:postedBatch:postedBatch]
		l.waking.Store(true)
	} else {
		l.posted, l.spare = l.spare[:0], nil
	}
	l.mu.Unlock()
	for i, f := range todo {
		todo[i] = nil
		l.stats.Posted++
		l.yield = true
		l.call(f)
	}
	if l.spare == nil {
		l.spare = todo[:0]
	}
}

// call runs a function that belongs to no connection. Its panic is logged
// and goes no further.
func (l *Loop) call(f func()) {
	defer func() {
		if r := recover(); r != nil {
			l.stats.Panics++
			l.cfg.Log.Error("posted function panicked", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}
