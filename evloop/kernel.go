//go:build linux || darwin || freebsd

package evloop

import (
	"time"

	"golang.org/x/sys/unix"
)

// kernel is the seam between the loop and the system: every call that a
// connection makes after it was set up. Tests script it to return short
// counts and errors at any place. An errno of 0 is success; EINTR is the
// caller's to handle.
type kernel interface {
	// Read fills a, then b, from a descriptor that is no socket or a
	// socket that carries no descriptors.
	Read(fd int, sock bool, a, b []byte) (int, unix.Errno)
	// Recv is Read on a Unix socket: descriptors that arrive are marked
	// close-on-exec and appended to files; with room == 0 none is taken.
	// lost reports that the kernel discarded some.
	Recv(fd int, a, b []byte, room int, files []int) (n int, got []int, lost bool, errno unix.Errno)
	// Write sends the buffers in order, and files with their first byte.
	Write(fd int, sock bool, bufs [][]byte, files []int) (int, unix.Errno)
	Sendfile(out, in int, off int64, n int) (int, unix.Errno)
	// Accept returns a non-blocking, close-on-exec descriptor.
	Accept(fd int) (int, unix.Sockaddr, unix.Errno)
	// Reserve opens a descriptor whose only use is to be given up; -1 if
	// there is none left.
	Reserve() int
	Close(fd int) unix.Errno
	ShutdownWrite(fd int) unix.Errno
	// SockError reads and clears the socket's pending error.
	SockError(fd int) unix.Errno
	// Nap sleeps for d, or not at all where nobody measured that it pays.
	Nap(d time.Duration)
	// Cede lets other threads have the processor, if any wait for it; nothing
	// where nobody measured that it pays.
	Cede()
}

// errnoOf turns the error of a wrapped call back into its number.
func errnoOf(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EIO
}

// maxPassed is SCM_MAX_FD, the most descriptors that one message carries on
// Linux; the BSDs allow fewer.
const maxPassed = 253

func openReserve() int {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

func setCommon(fd int) error {
	unix.CloseOnExec(fd)
	return unix.SetNonblock(fd, true)
}

func sockError(fd int) unix.Errno {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return errnoOf(err)
	}
	return unix.Errno(v)
}

// takeFiles appends the descriptors of the control messages in oob.
func takeFiles(oob []byte, files []int) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return files
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			files = append(files, fds...)
		}
	}
	return files
}
