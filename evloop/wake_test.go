//go:build linux

package evloop

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// watched notes what is so when the loop is woken and when it goes to sleep.
type watched struct {
	Poller
	wake, sleep func()
}

func (w *watched) Wake() error {
	w.wake()
	return w.Poller.Wake()
}

func (w *watched) Wait(ev []Event, d time.Duration) (int, error) {
	if d != 0 {
		w.sleep()
	}
	return w.Poller.Wait(ev, d)
}

// TestPost_wake holds that the loop is not woken to find its queue locked, and that it lets a goroutine which a posted function started
// run before it sleeps, also when nothing but the post woke it.
func TestPost_wake(t *testing.T) {
	audit(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the goroutine runs in the loop's place or not at all
	p, err := Open("auto")
	check(t, err)
	w := &watched{Poller: p}
	l := newLoop(Config{Log: quietLog()}, w, newSystem(), nil)
	var locked, early atomic.Int64
	var ran atomic.Bool
	var posted atomic.Bool // and the goroutine started
	w.wake = func() {
		if !l.mu.TryLock() {
			locked.Add(1)
			return
		}
		l.mu.Unlock()
	}
	w.sleep = func() {
		if posted.CompareAndSwap(true, false) && !ran.Load() {
			early.Add(1)
		}
	}
	done := make(chan error)
	go func() { done <- l.Run(t.Context()) }()
	const times = 100
	for range times {
		ran.Store(false)
		step := make(chan bool)
		check(t, l.Post(func() {
			posted.Store(true)
			go func() {
				ran.Store(true)
				close(step)
			}()
		}))
		<-step
		for posted.Load() { // until the loop sleeps
			runtime.Gosched()
		}
	}
	check(t, l.Post(l.Stop))
	check(t, <-done)
	t.Logf("%d of %d times locked, %d asleep too early", locked.Load(), times, early.Load())
	if locked.Load() > 0 {
		t.Errorf("%d of %d times the loop was woken with its queue locked", locked.Load(), times)
	}
	if early.Load() > times/5 { // the scheduler looks elsewhere first from time to time
		t.Errorf("%d of %d times the loop slept before a goroutine that it made ready had run", early.Load(), times)
	}
	if err := l.Post(func() {}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}
