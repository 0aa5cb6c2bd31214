//go:build linux || darwin || freebsd

package fdpass

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// turn lets one goroutine at a time use one direction of a Conn, and lets a
// context end its wait by a deadline in the past. Taking a free turn is one
// atomic operation; those who find it taken count themselves in waiting first,
// so that release either sees them or has freed the turn before they look.
//
// A turn that is taken without a deadline on the Conn begins quick: its
// holder makes one system call that does not wait, on the socket's number and
// past the runtime's poller, and Close waits until that is over. A quick turn
// that has to wait, or meets with anything but a message, becomes held.
type turn struct {
	state   atomic.Int32 // free, quick or held
	timed   atomic.Bool  // a deadline is set
	waiting atomic.Int32
	wake    chan struct{} // room for one; a stale token costs one more look

	set func(time.Time) error // immutable after New

	mu        sync.Mutex
	at        time.Time // guarded by mu; what the user set
	cancelled bool      // guarded by mu; the context of the turn has ended
}

const (
	free int32 = iota
	quick
	held
)

func (t *turn) init(set func(time.Time) error) {
	t.wake = make(chan struct{}, 1)
	t.set = set
}

func (t *turn) setDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = at
	t.timed.Store(!at.IsZero())
	if t.cancelled {
		return nil
	}
	return t.set(at)
}

func (t *turn) deadline() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at
}

func (t *turn) cancel(cancelled bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancelled = cancelled
	if cancelled {
		t.set(time.Unix(1, 0))
	} else {
		t.set(t.at)
	}
}

// quickly takes the turn as a quick one if it is free and nothing limits the
// wait. The holder looks whether the Conn is closed before it uses the number.
func (t *turn) quickly() bool {
	return !t.timed.Load() && t.state.CompareAndSwap(free, quick)
}

// hold makes a quick turn an ordinary one.
func (t *turn) hold() { t.state.Store(held) }

// settle waits for the end of a quick turn. Whoever begins one after the Conn
// was marked as closed does not use the number.
func (t *turn) settle() {
	for t.state.Load() == quick {
		runtime.Gosched()
	}
}

// take waits for the turn. Whoever took it calls release.
func (t *turn) take(ctx context.Context) error {
	if t.state.CompareAndSwap(free, held) {
		return nil
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	for !t.state.CompareAndSwap(free, held) {
		select {
		case <-t.wake:
		case <-ctx.Done():
			return contextError(ctx)
		}
	}
	return nil
}

func (t *turn) release() {
	t.state.Store(free)
	if t.waiting.Load() > 0 {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// watch makes the end of ctx end the turn's wait; the caller calls the function
// that it returns, with the error of the wait, before it releases the turn.
func (t *turn) watch(ctx context.Context) (done func(error) error) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		t.cancel(true)
		close(ended)
	})
	return func(err error) error {
		if stop() {
			return err
		}
		<-ended
		t.cancel(false)
		if errors.Is(err, ErrTimeout) {
			return fmt.Errorf("%w (%w)", contextError(ctx), err)
		}
		return err
	}
}

// contextError matches the context's own error and its cause, and ErrTimeout
// when it was a deadline.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}
