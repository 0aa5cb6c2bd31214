//go:build linux || darwin || freebsd

package fdpass

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockPath opens and locks the lock file at path without waiting; an error that
// matches EWOULDBLOCK means that another process has it. The lock ends with the
// process, however that ends. unlockPath removes the file, so a starter that
// locked a file which has just been removed begins again.
func lockPath(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock file: %w", err)
		}
		current, err := tryLock(f, path)
		if err == nil && current {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// tryLock reports whether f is locked and path still leads to it.
func tryLock(f *os.File, path string) (current bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("is a %s", fileKind(info.Mode()))
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return false, fmt.Errorf("belongs to uid %d, not to this user; remove it or choose another path", owner)
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false, err
	}
	now, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return err == nil && os.SameFile(info, now), nil
}

func unlockPath(f *os.File) error {
	return errors.Join(os.Remove(f.Name()), f.Close())
}

func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if opErr = unix.Flock(int(fd), how); opErr != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, opErr)
}
