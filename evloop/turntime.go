//go:build linux || darwin || freebsd

package evloop

import "time"

// A turn that took long by the clock has worked long, or another process had
// the processor. The thread's own processor time tells which, but asking for it
// is a system call. So it is asked for at most once in cpuEvery of turns, and
// again after a turn of cpuWorth and more: what was used since the last asking is
// what the turn used, and at most cpuEvery more.
const (
	cpuEvery = int64(100 * time.Microsecond)
	cpuWorth = int64(500 * time.Microsecond)
)

// turnCPU bounds what a turn used of the processor. It belongs to the loop's
// goroutine.
type turnCPU struct {
	read   func() (thread int, used int64) // of the calling thread, in ns; 0, 0 where there is no telling
	at     int64                           // when it was read last, by the loop's clock
	thread int
	used   int64
}

// begin is called when a turn begins.
func (t *turnCPU) begin(now int64) {
	if now-t.at >= cpuEvery {
		t.at = now
		t.thread, t.used = t.read()
	}
}

// worked returns the most that a turn of took ns can have worked: what it took,
// unless the thread's time shows less.
func (t *turnCPU) worked(took int64) int64 {
	if took < cpuWorth || t.thread == 0 {
		return took
	}
	thread, used := t.read()
	if thread != t.thread { // the runtime moved the goroutine: its work is spread over two
		return took
	}
	return min(took, used-t.used)
}
