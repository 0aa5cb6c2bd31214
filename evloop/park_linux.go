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

// parking is what lets the Go scheduler wait for an epoll descriptor. Its own poller watches relay, another one, in which the loop's is
// armed for one event each time that the loop parks: were it watched itself, every event would wake a thread of the scheduler, also
// those that come while the loop is at work.
type parking struct {
	file  *os.File // owns relay
	relay int
	conn  syscall.RawConn    // nil: it cannot be watched
	ask   func(uintptr) bool // with what follows: what Park would otherwise allocate each time
	asked bool
	n     int
	errno unix.Errno
}

var longAgo = time.Unix(1, 0)

func (p *epoll) CanPark() bool {
	if p.parking != nil {
		return p.parking.conn != nil
	}
	k := &parking{}
	var err error
	if k.relay, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return false
	}
	p.parking = k
	err = unix.SetNonblock(k.relay, true) // else os.NewFile does not watch it
	k.file = os.NewFile(uintptr(k.relay), "epoll")
	if err == nil {
		err = k.file.SetReadDeadline(time.Time{}) // refused for what is not watched
	}
	if err == nil {
		err = unix.EpollCtl(k.relay, unix.EPOLL_CTL_ADD, p.fd, &unix.EpollEvent{})
	}
	if err == nil {
		k.conn, err = k.file.SyscallConn()
	}
	k.ask = func(uintptr) bool {
		if k.asked {
			k.n, k.errno = p.wait(p.batch, 0)
			if k.n > 0 || k.errno != 0 {
				return true
			}
		}
		k.asked = true
		if err := unix.EpollCtl(k.relay, unix.EPOLL_CTL_MOD, p.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}); err != nil {
			k.errno = unix.EINVAL
			return true
		}
		return false // what is there already ends the wait at once
	}
	return err == nil
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
	k.n, k.errno, k.asked = 0, 0, false
	if err := k.conn.Read(k.ask); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	return p.events(ev, k.n, k.errno)
}

func (p *epoll) Unpark() error { return p.parking.file.SetReadDeadline(longAgo) }
