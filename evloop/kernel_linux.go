package evloop

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var _ kernel = (*system)(nil)

// system makes the real calls. It holds the argument blocks that the kernel
// reads, so that no call allocates; it belongs to the loop's goroutine.
//
// Calls on sockets pass MSG_DONTWAIT: O_NONBLOCK is shared by every copy of
// a descriptor, and another process that clears it must not stop this loop.
// Calls that move at most smallCall bytes cannot sleep and are short, so
// they skip the Go scheduler's bookkeeping; larger ones do not, because they
// would hold up a stop of the world.
type system struct {
	iov [maxIov]unix.Iovec
	msg unix.Msghdr
	oob [1024 + 16]byte // CMSG_SPACE of maxPassed descriptors
}

const (
	smallCall = 64 << 10
	maxIov    = 64
)

func newSystem() kernel { return &system{} }

type syscall6 = func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err unix.Errno)

func caller(size int) syscall6 {
	if size <= smallCall {
		return unix.RawSyscall6
	}
	return unix.Syscall6
}

func (s *system) vec(bufs ...[]byte) (n, size int) {
	for _, b := range bufs {
		if len(b) > 0 && n < maxIov {
			s.iov[n].Base = &b[0]
			s.iov[n].SetLen(len(b))
			n++
			size += len(b)
		}
	}
	return n, size
}

// unvec drops the pointers, so that the garbage collector may have the
// buffers.
func (s *system) unvec(n int) { clear(s.iov[:n]) }

func (s *system) Read(fd int, sock bool, a, b []byte) (int, unix.Errno) {
	if !sock {
		return s.readPlain(fd, a, b)
	}
	if len(b) == 0 {
		n, _, e := caller(len(a))(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&a[0])), uintptr(len(a)), unix.MSG_DONTWAIT, 0, 0)
		return int(n), e
	}
	k, size := s.vec(a, b)
	s.msg = unix.Msghdr{Iov: &s.iov[0], Iovlen: uint64(k)}
	n, _, e := caller(size)(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.msg)), unix.MSG_DONTWAIT, 0, 0, 0)
	s.unvec(k)
	return int(n), e
}

func (s *system) readPlain(fd int, a, b []byte) (int, unix.Errno) {
	k, _ := s.vec(a, b)
	n, _, e := unix.Syscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&s.iov[0])), uintptr(k))
	s.unvec(k)
	return int(n), e
}

func (s *system) Recv(fd int, a, b []byte, room int, files []int) (int, []int, bool, unix.Errno) {
	k, size := s.vec(a, b)
	s.msg = unix.Msghdr{Iov: &s.iov[0], Iovlen: uint64(k)}
	if room > 0 {
		s.msg.Control = &s.oob[0]
		s.msg.SetControllen(len(s.oob))
	}
	n, _, e := caller(size)(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.msg)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
	s.unvec(k)
	if e != 0 {
		return 0, files, false, e
	}
	if room > 0 && s.msg.Controllen > 0 {
		files = takeFiles(s.oob[:s.msg.Controllen], files)
	}
	return int(n), files, s.msg.Flags&unix.MSG_CTRUNC != 0, 0
}

func (s *system) Write(fd int, sock bool, bufs [][]byte, files []int) (int, unix.Errno) {
	if len(bufs) == 1 && len(files) == 0 && sock {
		p := bufs[0]
		n, _, e := caller(len(p))(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		return int(n), e
	}
	k, size := s.vec(bufs...)
	defer s.unvec(k)
	if !sock {
		n, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&s.iov[0])), uintptr(k))
		return int(n), e
	}
	s.msg = unix.Msghdr{Iov: &s.iov[0], Iovlen: uint64(k)}
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
		s.msg.Control = &rights[0]
		s.msg.SetControllen(len(rights))
	}
	n, _, e := caller(size)(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
	runtime.KeepAlive(rights)
	return int(n), e
}

func (s *system) Sendfile(out, in int, off int64, n int) (int, unix.Errno) {
	n, err := unix.Sendfile(out, in, &off, n)
	return n, errnoOf(err)
}

func (s *system) Accept(fd int) (int, unix.Sockaddr, unix.Errno) {
	nfd, sa, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	return nfd, sa, errnoOf(err)
}

func (s *system) Reserve() int                    { return openReserve() }
func (s *system) Close(fd int) unix.Errno         { return errnoOf(unix.Close(fd)) }
func (s *system) ShutdownWrite(fd int) unix.Errno { return errnoOf(unix.Shutdown(fd, unix.SHUT_WR)) }
func (s *system) SockError(fd int) unix.Errno     { return sockError(fd) }

// newSocket returns a non-blocking, close-on-exec stream socket.
func newSocket(domain int) (int, error) {
	return unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// domainOf returns the address family of fd, an error if it is no socket.
func domainOf(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN) }

// Nap takes longer by the slack of the thread's timers, which is 50 µs unless
// somebody changed it. It keeps the P, as asking on does: giving it up and
// taking it again costs more.
func (s *system) Nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
}

// Cede is sched_yield.
func (s *system) Cede() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
