package client

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve makes the file size bytes long and reserves its space, where the file system can.
func reserve(f *os.File, size int64) error {
	err := unix.EINTR
	for err == unix.EINTR {
		err, _ = unix.Fallocate(int(f.Fd()), 0, 0, size).(unix.Errno)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return f.Truncate(size)
	}
	if err != 0 {
		return os.NewSyscallError("fallocate", err)
	}
	return nil
}
