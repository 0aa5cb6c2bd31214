//go:build !linux

package cli

import "syscall"

// plantStep does nothing where there are no workers.
func plantStep() {}

func stopProcess(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }
