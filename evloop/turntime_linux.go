package evloop

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadCPU returns the calling thread and how long it has run.
func threadCPU() (thread int, used int64) {
	var t unix.Timespec
	if _, _, e := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&t)), 0); e != 0 {
		return 0, 0
	}
	return unix.Gettid(), t.Nano()
}
