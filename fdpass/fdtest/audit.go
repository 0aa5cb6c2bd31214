//go:build linux

// Package fdtest helps to test programs that pass descriptors: an audit of what a
// test left open, and a file whose close takes as long as the test likes.
package fdtest

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Audit fails the test at its end if descriptors of this process are open that
// were not when Audit was called, or if one above 2 would be inherited by a
// child. Call it before anything that registers a Cleanup. It is of no use in
// tests that run in parallel with others.
func Audit(t testing.TB) {
	t.Helper()
	gc := debug.SetGCPercent(-1) // finalizers would hide what nobody closes
	t.Cleanup(func() { debug.SetGCPercent(gc) })
	AuditNumbers(t)
}

// AuditNumbers is Audit for tests that need the garbage collector: what only a
// finalizer closes may escape it.
func AuditNumbers(t testing.TB) {
	t.Helper()
	warmPoller(t)
	before := Open(t)
	t.Cleanup(func() {
		Cloexec(t)
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			left := more(before, Open(t))
			if len(left) == 0 {
				return
			}
			if time.Now().After(end) {
				t.Errorf("descriptors left open: %v", left)
				return
			}
		}
	})
}

// Cloexec fails the test if a descriptor above 2 lacks close-on-exec, unless it
// was so when the process started.
func Cloexec(t testing.TB) {
	t.Helper()
	for fd, target := range Open(t) {
		if fd > 2 && inheritable(fd) && !Inherited(fd) {
			t.Errorf("descriptor %d (%s) is not close-on-exec", fd, target)
		}
	}
}

// Inherited reports whether the process was started with the descriptor.
func Inherited(fd int) bool { return inherited[fd] }

var inherited = func() map[int]bool {
	found := make(map[int]bool)
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && inheritable(fd) {
			found[fd] = true
		}
	}
	return found
}()

func inheritable(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// Open lists the open descriptors of this process and what they lead to.
func Open(t testing.TB) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	fds := make(map[int]string, len(entries))
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if errors.Is(err, os.ErrNotExist) || strings.HasPrefix(target, "/proc/") {
			continue
		}
		fd, _ := strconv.Atoi(e.Name())
		fds[fd] = target
	}
	return fds
}

// more lists what is in after and not in before.
func more(before, after map[int]string) []string {
	var left []string
	for fd, target := range after {
		if before[fd] != target {
			left = append(left, fmt.Sprintf("%d=%s", fd, target))
		}
	}
	return left
}

// warmPoller makes the runtime open its own descriptors (epoll, eventfd) before
// they are counted.
func warmPoller(t testing.TB) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
}
