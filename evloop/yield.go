//go:build linux || darwin || freebsd

package evloop

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// A loop that never sleeps keeps other goroutines from its processor until the
// runtime interrupts it, after 10 ms and more. It gives way by itself, but only
// when somebody waits: runtime.Gosched also wakes another thread, which often
// takes the loop over and leaves its caches behind.
const (
	yieldAfter  = int64(time.Millisecond)     // so often a busy loop looks whether a goroutine waits
	yieldAnyway = 8 * int64(time.Millisecond) // for what no queue shows: the runtime's timers and its poller
)

// yielder decides when the loop gives way. It belongs to the loop's goroutine.
type yielder struct {
	looked int64 // the loop's clock
	gave   int64
	queued func() bool // a goroutine waits for a processor
}

func newYielder() yielder {
	sample := []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}
	return yielder{queued: func() bool {
		metrics.Read(sample) // some 50 ns
		return sample[0].Value.Kind() != metrics.KindUint64 || sample[0].Value.Uint64() > 0
	}}
}

// slept says that the loop was asleep up to now and held up nobody.
func (y *yielder) slept(now int64) { y.looked, y.gave = now, now }

// due tells, after a turn, whether to give way.
func (y *yielder) due(now int64) bool {
	if now-y.looked < yieldAfter {
		return false
	}
	y.looked = now
	if now-y.gave < yieldAnyway && !y.queued() {
		return false
	}
	y.gave = now
	return true
}

// give lets other goroutines run.
func (l *Loop) give() {
	l.stats.Yields++
	l.cpu.at = 0 // it may go on in another thread
	runtime.Gosched()
}
