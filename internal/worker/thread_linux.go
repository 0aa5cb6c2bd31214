package worker

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// setSlice gives the calling thread, which must be locked, a slice of d; 0 is the system's own. Linux before 6.12 takes no notice.
func setSlice(d time.Duration) error {
	attr, err := unix.SchedGetAttr(0, 0)
	if err == nil {
		attr.Runtime = uint64(d)
		err = unix.SchedSetAttr(0, attr, 0)
	}
	if err != nil {
		return fmt.Errorf("slice of %v: %w", d, err)
	}
	return nil
}
