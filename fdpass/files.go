//go:build linux || darwin || freebsd

package fdpass

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Files is a set of received descriptors with one owner. Whoever has it takes
// each descriptor out or closes the set; a Files that is dropped leaks. It must
// not be used from several goroutines at a time. The zero value is empty.
type Files struct {
	fds   []int // -1 where a descriptor has been taken
	array [4]int
}

// Len returns how many descriptors came, those included that have been taken.
func (f *Files) Len() int { return len(f.fds) }

// Expect returns nil if exactly n descriptors came. Otherwise it discards
// them all and returns an error that matches ErrCount, and ErrNone if none came.
func (f *Files) Expect(n int) error {
	got := f.Len()
	if got == n {
		return nil
	}
	f.Discard()
	if got == 0 {
		return fmt.Errorf("fdpass: %w: %w, want %d", ErrCount, ErrNone, n)
	}
	return fmt.Errorf("fdpass: %w: %d, want %d", ErrCount, got, n)
}

// Peek lends the number of descriptor i, to look at it before taking it; -1 if
// it has been taken or there is none.
func (f *Files) Peek(i int) int {
	if i < 0 || i >= len(f.fds) {
		return -1
	}
	return f.fds[i]
}

// Take gives descriptor i to the caller as a plain number. Its open file
// description, blocking mode included, is shared with the sender.
func (f *Files) Take(i int) (int, error) {
	if i < 0 || i >= len(f.fds) {
		return -1, fmt.Errorf("fdpass: take descriptor %d of %d: %w", i, len(f.fds), ErrCount)
	}
	fd := f.fds[i]
	if fd < 0 {
		return -1, fmt.Errorf("fdpass: take descriptor %d: %w", i, ErrTaken)
	}
	f.fds[i] = -1
	return fd, nil
}

// TakeFile is Take as an *os.File with the given name. Deadlines work on it if
// the descriptor is in non-blocking mode, which TakeFile does not change.
func (f *Files) TakeFile(i int, name string) (*os.File, error) {
	fd, err := f.Take(i)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Close closes what has not been taken. Closing again does nothing. The error
// is the first that a close returned; the descriptors are gone all the same. A
// close can wait: see Discard.
func (f *Files) Close() error {
	var first error
	for i := 0; i < len(f.fds); {
		run := 1
		for i+run < len(f.fds) && f.fds[i] >= 0 && f.fds[i+run] == f.fds[i]+run {
			run++
		}
		if f.fds[i] >= 0 {
			if err := closeRun(f.fds[i], run); err != nil && first == nil {
				first = err
			}
		}
		for j := range run {
			f.fds[i+j] = -1
		}
		i += run
	}
	if first != nil {
		return fmt.Errorf("fdpass: close received descriptors: %w", first)
	}
	return nil
}

// closeEach closes n descriptors from first on.
func closeEach(first, n int) error {
	var failed error
	for fd := first; fd < first+n; fd++ {
		if err := unix.Close(fd); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}
