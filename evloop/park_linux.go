package evloop

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var _ parker = (*epoll)(nil)

// parking is an epoll descriptor that Go's own poller watches: descriptors of this kind are readable while there are events.
type parking struct {
	file  *os.File           // owns the descriptor
	conn  syscall.RawConn    // nil: it cannot be watched
	ask   func(uintptr) bool // with the results below: what Park would otherwise allocate each time
	n     int
	errno unix.Errno
}

var longAgo = time.Unix(1, 0)

func (p *epoll) CanPark() bool {
	if p.parking != nil {
		return p.parking.conn != nil
	}
	if err := unix.SetNonblock(p.fd, true); err != nil { // else os.NewFile does not watch it
		return false
	}
	k := &parking{file: os.NewFile(uintptr(p.fd), "epoll")}
	p.parking = k
	if k.file.SetReadDeadline(time.Time{}) != nil { // it is not watched
		return false
	}
	k.conn, _ = k.file.SyscallConn()
	k.ask = func(uintptr) bool {
		k.n, k.errno = p.wait(p.batch, 0)
		return k.n > 0 || k.errno != 0
	}
	return k.conn != nil
}

func (p *epoll) Park(ev []Event, d time.Duration, stop *atomic.Bool) (int, error) {
	k := p.parking
	until := time.Time{} // also undoes an Unpark
	if d >= 0 {
		until = time.Now().Add(d)
	}
	if err := k.file.SetReadDeadline(until); err != nil {
		return 0, err
	}
	if stop.Load() {
		return 0, nil
	}
	p.room(ev)
	k.n, k.errno = 0, 0
	if err := k.conn.Read(k.ask); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	return p.events(ev, k.n, k.errno)
}

func (p *epoll) Unpark() error { return p.parking.file.SetReadDeadline(longAgo) }
