//go:build linux

package fdtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Stop stops a process by SIGSTOP and returns when all of its threads stand
// still: the system call returns while they may go on for some milliseconds.
func Stop(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("fdtest: stop process %d: %w", pid, err)
	}
	for end := time.Now().Add(time.Minute); !stopped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("fdtest: process %d does not stop", pid)
		}
	}
	return nil
}

func stopped(pid int) bool {
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
