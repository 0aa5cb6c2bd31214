package worker

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// loopSlice is how long the system lets a loop compute before another thread's turn: the least there is. A thread with a short slice
// is let in sooner when it wakes, which is what clients that ask beside bulk wait for on a machine whose processors are all busy.
const loopSlice = 100_000 // ns

// shortSlice gives the calling thread, which must be locked, a short slice. Linux before 6.12 takes no notice.
func shortSlice() error {
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Runtime: loopSlice}, 0); err != nil {
		return fmt.Errorf("sched_setattr: %w", err)
	}
	return nil
}
