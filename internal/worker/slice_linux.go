package worker

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// loopSlice is how long the system lets a thread compute before another's turn: the least there is. A thread with a short slice
// is let in sooner when it wakes, which is what clients that ask beside bulk wait for on a machine whose processors are all busy.
const loopSlice = 100_000 // ns

// shortSlices gives all threads of the process a short slice; those that come inherit it. A loop that had a thread of its own for that
// would pay four system calls for every turn of the Go scheduler. Linux before 6.12 takes no notice.
func shortSlices() error {
	done := map[int]bool{}
	for more := true; more; { // a thread without may have made another meanwhile
		more = false
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("threads of this process: %w", err)
		}
		for _, e := range list {
			id, err := strconv.Atoi(e.Name())
			if err != nil || done[id] {
				continue
			}
			done[id], more = true, true
			if err := shortSlice(id); err != nil && err != unix.ESRCH {
				return fmt.Errorf("slice of thread %d: %w", id, err)
			}
		}
	}
	return nil
}

func shortSlice(thread int) error {
	a, err := unix.SchedGetAttr(thread, 0)
	if err != nil {
		return err
	}
	if a.Policy != unix.SCHED_NORMAL && a.Policy != unix.SCHED_BATCH { // the operator's choice
		return nil
	}
	a.Runtime = loopSlice
	return unix.SchedSetAttr(thread, a, 0)
}
