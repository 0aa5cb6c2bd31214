//go:build linux || darwin || freebsd

package evloop

import (
	"container/heap"
	"time"
)

// Timer is a function that the loop calls once, on its goroutine.
type Timer struct {
	at    int64
	f     func()
	loop  *Loop
	index int // in the heap, -1 when it is not
}

// After has f called after d, rounded up to the resolution of the backend.
// Call it on the loop's goroutine.
func (l *Loop) After(d time.Duration, f func()) *Timer {
	t := &Timer{at: l.clock() + int64(max(d, 0)), f: f, loop: l}
	heap.Push(&l.timers, t)
	return t
}

// Stop cancels the timer and reports whether it did: false if it was called
// or stopped before. Call it on the loop's goroutine.
func (t *Timer) Stop() bool {
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.loop.timers, t.index)
	return true
}

// timerHeap orders timers by time; it implements heap.Interface.
type timerHeap []*Timer

// next returns when the first timer is due, 0 for never.
func (h timerHeap) next() int64 {
	if len(h) == 0 {
		return 0
	}
	return h[0].at
}

// due removes the first timer if its time has come and returns its function.
func (h *timerHeap) due(now int64) func() {
	if len(*h) == 0 || (*h)[0].at > now {
		return nil
	}
	return heap.Pop(h).(*Timer).f
}

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
