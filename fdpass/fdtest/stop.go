//go:build linux

package fdtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stop stops a process by SIGSTOP and returns when all of its threads stand
// still: the system call returns while they may go on for some milliseconds.
func Stop(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("fdtest: stop process %d: %w", pid, err)
	}
	return AwaitStop(pid)
}

// StopSelf stops this process by SIGSTOP: nothing that the calling goroutine
// does next happens before SIGCONT. A signal to the process could be handled by
// another thread, while this one goes on.
func StopSelf() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP); err != nil {
		return fmt.Errorf("fdtest: stop this process: %w", err)
	}
	return nil
}

// AwaitStop waits until a process that stops by itself stands still.
func AwaitStop(pid int) error {
	for end := time.Now().Add(time.Minute); !Stopped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("fdtest: process %d does not stop", pid)
		}
	}
	return nil
}

// Stopped tells whether all threads of a process stand still.
func Stopped(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		if state := b[bytes.LastIndexByte(b, ')')+1:]; len(state) < 2 || state[1] != 'T' {
			return false
		}
	}
	return len(stats) > 0
}
