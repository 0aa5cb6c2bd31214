//go:build linux

package fdpass

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendmsgRaw is sendmsg(2) as it is: the wrappers of x/sys and net add a byte to
// an empty message.
func sendmsgRaw(fd int, m *unix.Msghdr) error {
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return errno
	}
	return nil
}
