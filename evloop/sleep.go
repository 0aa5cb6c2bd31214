//go:build linux || darwin || freebsd

package evloop

import (
	"sync/atomic"
	"time"
)

// How a loop waits for events, and so how it is woken up.
const (
	awake    = int32(iota) // it looks at what was posted before it sleeps
	inKernel               // in a system call
	parked                 // in the scheduler, as a goroutine
)

// parker is a Poller whose descriptor the Go scheduler can wait for.
type parker interface {
	// CanPark prepares for it, and tells whether it can be.
	CanPark() bool
	// Park is Wait for one who leaves the thread to other goroutines meanwhile. It returns at once when stop is set, or after Unpark.
	Park(ev []Event, d time.Duration, stop *atomic.Bool) (int, error)
	Unpark() error
}

// ShareThread says whether the loop, while it waits for events, leaves its thread to other goroutines (if the backend can: epoll), as
// a goroutine does that reads from a net.Conn. What it has handed to an Offload then runs right behind it on the same thread, and
// neither has to wake another. A loop whose goroutine is locked to its thread should not: it waits in the kernel, as all do from the
// start, and what moves so much that it has a thread asks on (Config.Spin) only for payloads. Call it on the loop's goroutine, or before Run.
func (l *Loop) ShareThread(on bool) {
	p, can := l.p.(parker)
	l.alone, l.shares = !on, on && can && p.CanPark()
}

// wait waits for events for d; < 0 for ever.
func (l *Loop) wait(d time.Duration) (int, error) {
	if d == 0 {
		return l.p.Wait(l.ev, 0)
	}
	defer l.asleep.Store(awake)
	if l.shares {
		l.asleep.Store(parked)
		return l.p.(parker).Park(l.ev, d, &l.waking)
	}
	l.asleep.Store(inKernel)
	if l.waking.Load() {
		d = 0
	}
	return l.p.Wait(l.ev, d)
}

// wakeUp ends a wait, from any goroutine, after waking was set. Called with mu held.
func (l *Loop) wakeUp() error {
	switch l.asleep.Load() {
	case inKernel:
		return l.p.Wake()
	case parked:
		return l.p.(parker).Unpark()
	}
	return nil
}
