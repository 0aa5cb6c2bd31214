//go:build darwin || freebsd

package evloop

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var _ kernel = (*system)(nil)

// system makes the real calls through x/sys. Cross-built, not run.
type system struct {
	oob  [1024 + 16]byte
	copy []byte // what Sendfile read from the file
}

const maxIov = 64

func newSystem() kernel { return &system{} }

func list(a, b []byte) [][]byte {
	if len(b) == 0 {
		return [][]byte{a}
	}
	return [][]byte{a, b}
}

func (s *system) Read(fd int, sock bool, a, b []byte) (int, unix.Errno) {
	if !sock {
		n, err := unix.Read(fd, a)
		return max(n, 0), errnoOf(err)
	}
	n, _, _, _, err := unix.RecvmsgBuffers(fd, list(a, b), nil, unix.MSG_DONTWAIT)
	return max(n, 0), errnoOf(err)
}

// Recv gives the kernel room for every descriptor that a message can carry,
// even with room == 0, because the BSDs leak those that do not fit. The
// caller closes the surplus.
func (s *system) Recv(fd int, a, b []byte, room int, files []int) (int, []int, bool, unix.Errno) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, oobn, flags, _, err := unix.RecvmsgBuffers(fd, list(a, b), s.oob[:], unix.MSG_DONTWAIT)
	if err != nil {
		return 0, files, false, errnoOf(err)
	}
	have := len(files)
	files = takeFiles(s.oob[:oobn], files)
	for _, f := range files[have:] {
		unix.CloseOnExec(f)
	}
	return n, files, flags&unix.MSG_CTRUNC != 0, 0
}

func (s *system) Write(fd int, sock bool, bufs [][]byte, files []int) (int, unix.Errno) {
	if !sock {
		n, err := unix.Write(fd, bufs[0])
		return max(n, 0), errnoOf(err)
	}
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	n, err := unix.SendmsgBuffers(fd, bufs, rights, nil, unix.MSG_DONTWAIT)
	return max(n, 0), errnoOf(err)
}

// Sendfile copies through memory: the BSDs' sendfile reports what it sent
// beside EAGAIN, and x/sys hides it on one of them.
func (s *system) Sendfile(out, in int, off int64, n int) (int, unix.Errno) {
	if s.copy == nil {
		s.copy = make([]byte, 64<<10)
	}
	n, err := unix.Pread(in, s.copy[:min(n, len(s.copy))], off)
	if err != nil || n == 0 {
		return 0, errnoOf(err)
	}
	n, err = unix.Write(out, s.copy[:n])
	return max(n, 0), errnoOf(err)
}

func (s *system) Accept(fd int) (int, unix.Sockaddr, unix.Errno) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	nfd, sa, err := unix.Accept(fd)
	if err != nil {
		return -1, nil, errnoOf(err)
	}
	if err := setCommon(nfd); err != nil {
		_ = unix.Close(nfd)
		return -1, nil, errnoOf(err)
	}
	return nfd, sa, 0
}

func (s *system) Reserve() int                    { return openReserve() }
func (s *system) Close(fd int) unix.Errno         { return errnoOf(unix.Close(fd)) }
func (s *system) ShutdownWrite(fd int) unix.Errno { return errnoOf(unix.Shutdown(fd, unix.SHUT_WR)) }
func (s *system) SockError(fd int) unix.Errno     { return sockError(fd) }

func newSocket(domain int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(domain, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	if err := setCommon(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// domainOf returns the address family of fd, an error if it is no socket.
func domainOf(fd int) (int, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	switch sa.(type) {
	case *unix.SockaddrUnix:
		return unix.AF_UNIX, nil
	case *unix.SockaddrInet6:
		return unix.AF_INET6, nil
	}
	return unix.AF_INET, nil
}

func (s *system) Nap(time.Duration) {}

func (s *system) Cede() {}
