//go:build linux

package handover

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Cookie returns the number by which the kernel tells the socket fd from all others of this boot.
func Cookie(fd int) (cookie uint64, err error) {
	err = socketOption(fd, unix.SO_COOKIE, unsafe.Pointer(&cookie), unsafe.Sizeof(cookie))
	return cookie, err
}

// socketOption is getsockopt without telling the scheduler: these options are read without a lock, and what is no socket is refused
// before anybody is asked.
func socketOption(fd, option int, value unsafe.Pointer, size uintptr) error {
	n := uint32(size)
	if _, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(option), uintptr(value), uintptr(unsafe.Pointer(&n)), 0); errno != 0 {
		return errno
	}
	return nil
}

var errListens = errors.New("it listens")

// CheckConn returns nil when fd, of which nothing is known, is the connection with the cookie. It asks nothing that could wait: a
// file may be on a file system that does not answer.
func CheckConn(fd int, cookie uint64) error {
	got, err := Cookie(fd)
	if err != nil {
		return fmt.Errorf("handover: %w: not a socket: %w", ErrFiles, err)
	}
	if got != cookie {
		return fmt.Errorf("handover: %w: a socket with the cookie %#x, it should have %#x", ErrFiles, got, cookie)
	}
	var kind, listens int32
	err = socketOption(fd, unix.SO_TYPE, unsafe.Pointer(&kind), unsafe.Sizeof(kind))
	if err == nil && kind != unix.SOCK_STREAM {
		err = unix.EPROTOTYPE
	}
	if err == nil {
		err = socketOption(fd, unix.SO_ACCEPTCONN, unsafe.Pointer(&listens), unsafe.Sizeof(listens))
	}
	if err == nil && listens != 0 {
		err = errListens
	}
	if err != nil {
		return fmt.Errorf("handover: %w: not a stream connection: %w", ErrFiles, err)
	}
	return nil
}
