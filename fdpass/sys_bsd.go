//go:build darwin || freebsd

package fdpass

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSockName is what sun_path holds beside its final zero byte; unix(4).
const maxSockName = 103

// socket opens a non-blocking, close-on-exec Unix socket.
func socket(sotype int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(unix.AF_UNIX, sotype, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// presetMode does nothing: a socket has no mode before it is bound here.
func presetMode(int, uint32) error { return nil }

func withSockName(path string, fn func(name string) error) error {
	if len(path) > maxSockName {
		return fmt.Errorf("path of %d bytes does not fit into a socket address (at most %d)", len(path), maxSockName)
	}
	return fn(path)
}

const scmPidfd = -1 // Linux alone has it

type sysMsg struct{}

// recvmsg keeps fork out until the descriptors are close-on-exec: darwin has no
// flag for that.
func (*sysMsg) recvmsg(fd int, p, oob []byte) (n, oobn, flags int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, oobn, flags, _, err = unix.Recvmsg(fd, p, oob, unix.MSG_DONTWAIT)
	if err == nil {
		var files Files
		files.parse(oob[:oobn])
		for _, received := range files.fds {
			unix.CloseOnExec(received)
		}
	}
	return n, oobn, flags, err
}

func (*sysMsg) sendmsg(fd int, p, oob []byte) (int, error) {
	return unix.SendmsgN(fd, p, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func socketpair(sotype int) ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, sotype, 0)
	if err != nil {
		return fds, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if err = unix.SetNonblock(fd, true); err != nil {
			unix.Close(fds[0])
			unix.Close(fds[1])
			return fds, err
		}
	}
	return fds, nil
}

func setPassRights(int, bool) error {
	return fmt.Errorf("needs Linux 6.16: %w", errors.ErrUnsupported)
}

// peerHungUp takes an empty message for the end of the connection, the safe
// side where poll cannot tell.
func peerHungUp(int) bool { return true }

func closeRun(first, n int) error { return closeEach(first, n) }

// closesAtOnce reports whether close of fd waits for nobody.
func closesAtOnce(fd int) bool {
	linger, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	return err == unix.EBADF || err == nil && linger.Onoff == 0
}

// waker ends a wait in poll(2): a pipe.
type waker struct{ r, w int }

func newWaker() (waker, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return waker{-1, -1}, os.NewSyscallError("pipe", err)
	}
	for _, fd := range p {
		unix.CloseOnExec(fd)
		_ = unix.SetNonblock(fd, true)
	}
	return waker{p[0], p[1]}, nil
}

// waits returns what becomes readable.
func (w waker) waits() int { return w.r }

func (w waker) wake() { _, _ = unix.Write(w.w, []byte{1}) }

func (w waker) drain() {
	var b [64]byte
	_, _ = unix.Read(w.r, b[:])
}

func (w waker) close() {
	_ = unix.Close(w.r)
	_ = unix.Close(w.w)
}
