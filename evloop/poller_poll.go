//go:build linux || darwin || freebsd

package evloop

import (
	"time"

	"golang.org/x/sys/unix"
)

var _ Poller = (*poll)(nil)

// poll hands the kernel the whole dense list on every Wait. Removal swaps
// with the last entry; pos finds an entry by its descriptor.
type poll struct {
	wk   waker
	fds  []unix.PollFd // fds[0] is the waker
	pos  []int32       // by descriptor: index into fds, 0 if none
	next int           // where the next scan starts, so that a full batch is fair
}

func newPoll() (Poller, error) {
	wk, err := newWaker()
	if err != nil {
		return nil, err
	}
	return &poll{wk: wk, fds: []unix.PollFd{{Fd: int32(wk.fd), Events: unix.POLLIN}}, next: 1}, nil
}

func (p *poll) Name() string { return "poll" }

func (p *poll) Set(fd int, old, new Interest) error {
	if old == new {
		return nil
	}
	if fd < 0 {
		return unix.EBADF
	}
	if fd >= len(p.pos) {
		p.pos = append(p.pos, make([]int32, fd+1-len(p.pos)+64)...)
	}
	i := p.pos[fd]
	switch {
	case new == 0 && i == 0:
		return unix.ENOENT
	case new == 0:
		last := len(p.fds) - 1
		p.fds[i] = p.fds[last]
		p.pos[p.fds[i].Fd] = i
		p.fds, p.pos[fd] = p.fds[:last], 0
		return nil
	case i == 0:
		i = int32(len(p.fds))
		p.fds = append(p.fds, unix.PollFd{Fd: int32(fd)})
		p.pos[fd] = i
	}
	p.fds[i].Events = 0
	if new&Read != 0 {
		p.fds[i].Events |= unix.POLLIN
	}
	if new&Write != 0 {
		p.fds[i].Events |= unix.POLLOUT
	}
	return nil
}

func (p *poll) Wait(ev []Event, d time.Duration) (int, error) {
	n, err := unix.Poll(p.fds, millis(d))
	if err != nil {
		if err == unix.EINTR {
			return 0, nil
		}
		return 0, err
	}
	if n > 0 && p.fds[0].Revents != 0 {
		p.wk.drain()
		n--
	}
	if p.next >= len(p.fds) {
		p.next = 1
	}
	k, i := 0, p.next
	for range len(p.fds) - 1 {
		if n == 0 || k == len(ev) {
			break
		}
		if r := p.fds[i].Revents; r != 0 {
			n--
			ev[k] = Event{FD: p.fds[i].Fd, Hup: r&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0}
			if r&unix.POLLIN != 0 {
				ev[k].Ready |= Read
			}
			if r&unix.POLLOUT != 0 {
				ev[k].Ready |= Write
			}
			k++
		}
		if i++; i == len(p.fds) {
			i = 1
		}
	}
	p.next = i
	return k, nil
}

func (p *poll) Wake() error { return p.wk.wake() }

func (p *poll) Close() error { return p.wk.close() }
