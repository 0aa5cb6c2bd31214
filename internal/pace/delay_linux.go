package pace

import (
	"math"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Delay is the shortest time in the last minutes in which a packet came to the peer of the TCP connection fd and back, as the kernel has seen it.
// ok is false when that is not known, as for a Unix socket, which holds next to nothing.
func Delay(fd int) (delay time.Duration, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.Min_rtt == 0 || info.Min_rtt == math.MaxUint32 {
		return 0, false
	}
	return time.Duration(info.Min_rtt) * time.Microsecond, true
}

// LinkOf is the link of a connection, which is not closed by it; nil when it has none that could be known.
func LinkOf(conn any) Link {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return func() (delay time.Duration, ok bool) {
		if raw.Control(func(fd uintptr) { delay, ok = Delay(int(fd)) }) != nil {
			return 0, false
		}
		return delay, ok
	}
}
