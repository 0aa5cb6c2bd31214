//go:build linux

package evloop

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var _ Poller = (*epoll)(nil)

// epoll keeps its registrations in the kernel: Wait costs by what is ready,
// not by what is registered.
//
// EPOLLRDHUP is never asked for. A peer's FIN makes EPOLLIN ready as well,
// and the read that returns 0 is the only end of stream that counts.
type epoll struct {
	fd    int
	wk    waker
	batch []unix.EpollEvent
}

func newEpoll() (Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wk, err := newWaker()
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	p := &epoll{fd: fd, wk: wk}
	if err := p.Set(wk.fd, 0, Read); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

func (p *epoll) Name() string { return "epoll" }

func (p *epoll) Set(fd int, old, new Interest) error {
	if old == new {
		return nil
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case new == 0:
		op = unix.EPOLL_CTL_DEL
	case old == 0:
		op = unix.EPOLL_CTL_ADD
	}
	ev := unix.EpollEvent{Fd: int32(fd)}
	if new&Read != 0 {
		ev.Events |= unix.EPOLLIN
	}
	if new&Write != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(p.fd, op, fd, &ev)
}

func (p *epoll) Wait(ev []Event, d time.Duration) (int, error) {
	if len(p.batch) < len(ev) {
		p.batch = make([]unix.EpollEvent, len(ev))
	}
	n, errno := p.wait(p.batch[:len(ev)], millis(d))
	if errno != 0 {
		if errno == unix.EINTR {
			return 0, nil
		}
		return 0, errno
	}
	k := 0
	for i := range n {
		e := &p.batch[i]
		if int(e.Fd) == p.wk.fd {
			p.wk.drain()
			continue
		}
		ev[k] = Event{FD: e.Fd}
		if e.Events&unix.EPOLLIN != 0 {
			ev[k].Ready |= Read
		}
		if e.Events&unix.EPOLLOUT != 0 {
			ev[k].Ready |= Write
		}
		ev[k].Hup = e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0
		k++
	}
	return k, nil
}

// wait calls the kernel. A wait of 0 cannot sleep, so it skips the
// scheduler's bookkeeping for system calls; any other wait hands its P back.
func (p *epoll) wait(batch []unix.EpollEvent, ms int) (int, unix.Errno) {
	call := unix.Syscall6
	if ms == 0 {
		call = unix.RawSyscall6
	}
	n, _, errno := call(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&batch[0])), uintptr(len(batch)), uintptr(ms), 0, 0)
	return int(n), errno
}

func (p *epoll) Wake() error { return p.wk.wake() }

func (p *epoll) Close() error {
	_ = p.wk.close()
	return unix.Close(p.fd)
}
