//go:build linux

package evloop

import (
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestTurnCPU holds what a turn can have worked against a scripted clock.
func TestTurnCPU(t *testing.T) {
	audit(t)
	const us = int64(time.Microsecond)
	for _, c := range []struct {
		name          string
		thread        int   // at the end; 1 at the beginning
		before, ran   int64 // used since the last reading: before the turn, and in it
		took, want    int64
		reads, offset int64 // the turn begins offset after the last reading
	}{
		{"short", 1, 0, 40 * us, 40 * us, 40 * us, 1, 200 * us},
		{"all work", 1, 0, 900 * us, 900 * us, 900 * us, 2, 200 * us},
		{"taken off", 1, 0, 30 * us, 5000 * us, 30 * us, 2, 200 * us},
		{"read a moment ago", 1, 50 * us, 30 * us, 5000 * us, 80 * us, 1, 60 * us},
		{"never more than it took", 1, 90 * us, 590 * us, 600 * us, 600 * us, 1, 99 * us},
		{"moved to another thread", 2, 0, 30 * us, 5000 * us, 5000 * us, 2, 200 * us},
		{"cannot tell", 0, 0, 30 * us, 5000 * us, 5000 * us, 2, 200 * us},
	} {
		thread, used, reads := 1, int64(7_000_000), int64(0)
		cpu := turnCPU{read: func() (int, int64) { reads++; return thread, used }}
		cpu.begin(1_000_000)
		reads = 0
		used += c.before
		cpu.begin(1_000_000 + c.offset)
		used += c.ran
		thread = c.thread
		if got := cpu.worked(c.took); got != c.want || reads != c.reads {
			t.Errorf("%s: worked %d after %d readings, want %d after %d", c.name, got, reads, c.want, c.reads)
		}
	}
}

// TestLongestWork has turns in which the thread does not run, and finds them
// long by the clock and short by work.
func TestLongestWork(t *testing.T) {
	audit(t)
	r := startLoop(t, Config{})
	over := func(times [24]int64) (n int64) {
		for _, k := range times[13:] { // 4,096 µs and more
			n += k
		}
		return n
	}
	eventually(t, "a long turn without work", func() bool { // one in which the runtime moves the goroutine counts whole
		r.do(func() {
			pause := unix.NsecToTimespec(int64(6 * time.Millisecond))
			_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0) // the thread itself sleeps
		})
		s := r.stats()
		return over(s.TurnTimes) > over(s.WorkTimes)
	})
	if s := r.stats(); s.LongestTurn < 4*time.Millisecond || s.LongestWork > s.LongestTurn {
		t.Errorf("longest turn %v, longest work %v", s.LongestTurn, s.LongestWork)
	}
	thread, used := threadCPU()
	if thread == 0 || used <= 0 {
		t.Errorf("thread %d has used %d ns", thread, used)
	}
}
