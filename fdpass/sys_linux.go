package fdpass

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSockName is what sun_path holds beside its final zero byte; unix(7).
const maxSockName = 107

// socket opens a non-blocking, close-on-exec Unix socket.
func socket(sotype int) (int, error) {
	return unix.Socket(unix.AF_UNIX, sotype|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

// presetMode sets the mode that bind will give to the socket file.
func presetMode(fd int, mode uint32) error { return unix.Fchmod(fd, mode) }

// withSockName calls fn with a name for path that fits into an address: path
// itself, or for a long one its base name below an open descriptor of its
// directory.
func withSockName(path string, fn func(name string) error) error {
	if len(path) <= maxSockName {
		return fn(path)
	}
	dir, base := filepath.Split(path)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	short := "/proc/self/fd/" + strconv.Itoa(fd) + "/" + base
	if len(short) > maxSockName {
		return fmt.Errorf("name of %d bytes does not fit into a socket address", len(base))
	}
	return fn(short)
}

// waker ends a wait in poll(2): an eventfd.
type waker struct{ fd int }

func newWaker() (waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	return waker{fd}, os.NewSyscallError("eventfd", err)
}

// waits returns what becomes readable.
func (w waker) waits() int { return w.fd }

func (w waker) wake() { _, _ = unix.Write(w.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (w waker) drain() {
	var b [8]byte
	_, _ = unix.Read(w.fd, b[:])
}

func (w waker) close() { _ = unix.Close(w.fd) }

const scmPidfd = 0x04 // SCM_PIDFD, linux/socket.h

// sysMsg is what the kernel reads; it is kept, because an iovec on the stack would
// be moved to the heap for each message.
type sysMsg struct {
	hdr unix.Msghdr
	iov unix.Iovec
}

// recvmsg and sendmsg do not tell the scheduler that they enter the kernel: they
// never wait there, for MSG_DONTWAIT holds even if another process has switched
// the open file description to blocking mode.
// Nor do they ask for the sender's address, for which x/sys would allocate.
func (m *sysMsg) recvmsg(fd int, p, oob []byte) (n, oobn, flags int, err error) {
	n, err = m.transfer(unix.SYS_RECVMSG, fd, p, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	return n, int(m.hdr.Controllen), int(m.hdr.Flags), err
}

func (m *sysMsg) sendmsg(fd int, p, oob []byte) (n int, err error) {
	return m.transfer(unix.SYS_SENDMSG, fd, p, oob, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func (m *sysMsg) transfer(trap uintptr, fd int, p, oob []byte, flags int) (int, error) {
	m.iov.Base = &p[0]
	m.iov.SetLen(len(p))
	m.hdr.Iov = &m.iov
	m.hdr.SetIovlen(1)
	m.hdr.Control = unsafe.SliceData(oob)
	m.hdr.SetControllen(len(oob))
	n, _, errno := syscall.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), uintptr(flags), 0, 0, 0)
	m.iov.Base = nil // p is the caller's
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN:
		return 0, unix.EAGAIN
	}
	return 0, errno
}

func socketpair(sotype int) ([2]int, error) {
	return unix.Socketpair(unix.AF_UNIX, sotype|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

func setPassRights(fd int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, value)
	if err == unix.ENOPROTOOPT {
		return fmt.Errorf("needs Linux 6.16: %w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// peerHungUp reports whether the peer sends no more.
func peerHungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	_, err := unix.Poll(p, 0)
	return err != nil || p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// closeRun closes n descriptors from first on, all of them the caller's.
func closeRun(first, n int) error {
	if n == 1 {
		return unix.Close(first)
	}
	if err := unix.CloseRange(uint(first), uint(first+n-1), 0); err != nil {
		return closeEach(first, n)
	}
	return nil
}

// closesAtOnce reports whether close of fd waits for nobody. It asks nothing that
// could wait itself, as fstat does.
func closesAtOnce(fd int) bool {
	linger, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	switch err {
	case nil:
		return linger.Onoff == 0
	case unix.EBADF: // a handle of a path, or closed
		return true
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err == nil {
		return true
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	return err == nil
}
