//go:build unix

package client

import (
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A server on this machine answers in less time than a processor takes to go to sleep and wake again, so its answers are asked for
// during brief before the goroutine is parked. Each time for nothing doubles how often that is left out.
const (
	brief    = 50 * time.Microsecond
	maxSkips = 6 // at most 2^6 - 1 waits begin asleep
)

// eager reads from a connection to this machine. For one goroutine at a time, as the Client is.
type eager struct {
	raw    syscall.RawConn
	missed uint // times for nothing in a row, at most maxSkips
	skip   int  // waits that begin asleep
	cedes  ceder
}

// eagerly is what reads nc best.
func eagerly(nc net.Conn) io.Reader {
	c, ok := nc.(syscall.Conn)
	if !ok || runtime.NumCPU() == 1 || runtime.GOMAXPROCS(0) == 1 || !near(nc) {
		return nc
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nc
	}
	return &eager{raw: raw}
}

// Read implements io.Reader.
func (e *eager) Read(p []byte) (n int, err error) {
	asked := false
	var errno error
	if err := e.raw.Read(func(fd uintptr) bool {
		n, errno = receive(int(fd), p)
		if errno == unix.EAGAIN && !asked {
			asked = true
			n, errno = e.ask(int(fd), p)
		}
		return errno != unix.EAGAIN
	}); err != nil {
		return 0, err
	}
	switch {
	case errno != nil:
		return 0, os.NewSyscallError("read", errno)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// ask looks again and again for a moment, and lets the server run when it shares the processor.
func (e *eager) ask(fd int, p []byte) (n int, err error) {
	if e.skip > 0 {
		e.skip--
		return 0, unix.EAGAIN
	}
	began := time.Now()
	for now := began; now.Sub(began) < brief; now = time.Now() {
		if e.cedes.may(now) {
			cede()
			e.cedes.took(now, time.Now())
		}
		if n, err = receive(fd, p); err != unix.EAGAIN {
			e.missed = 0
			return n, err
		}
	}
	e.missed = min(e.missed+1, maxSkips)
	e.skip = 1<<e.missed - 1
	return 0, unix.EAGAIN
}

func receive(fd int, p []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, p); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
