//go:build linux || darwin || freebsd

package evloop

import (
	"math/bits"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var _ Poller = (*selector)(nil)

// fdSetSize is how many descriptors the system's own fd_set holds.
const fdSetSize = 1024

// selector keeps its own bitmaps and passes copies, because select
// overwrites them. They grow with the largest descriptor: Linux and FreeBSD
// read as many bits as the first argument says, only the C library's type
// stops at 1,024. macOS refuses more, and so does Set there.
//
// The words are laid out as the kernel's longs on 64-bit and as 32-bit
// little-endian systems' ints.
type selector struct {
	wk         waker
	rd, wr     []uint64 // wanted
	rout, wout []uint64 // what select overwrites
	maxfd      int
	next       int // word where the next scan starts, so that a full batch is fair
}

func newSelect() (Poller, error) {
	wk, err := newWaker()
	if err != nil {
		return nil, err
	}
	p := &selector{wk: wk, maxfd: -1}
	if err := p.Set(wk.fd, 0, Read); err != nil {
		_ = wk.close()
		return nil, err
	}
	return p, nil
}

func (p *selector) Name() string { return "select" }

func (p *selector) Set(fd int, old, new Interest) error {
	if old == new {
		return nil
	}
	if fd < 0 {
		return unix.EBADF
	}
	if fd >= fdSetSize && runtime.GOOS == "darwin" {
		return ErrFDTooLarge
	}
	for fd >= 64*len(p.rd) { // by whole fd_sets, so that the pointer below is always to one
		p.rd = append(p.rd, make([]uint64, fdSetSize/64)...)
		p.wr = append(p.wr, make([]uint64, fdSetSize/64)...)
		p.rout, p.wout = make([]uint64, len(p.rd)), make([]uint64, len(p.rd))
	}
	w, bit := fd/64, uint64(1)<<(fd%64)
	p.rd[w] &^= bit
	p.wr[w] &^= bit
	if new&Read != 0 {
		p.rd[w] |= bit
	}
	if new&Write != 0 {
		p.wr[w] |= bit
	}
	if new != 0 {
		p.maxfd = max(p.maxfd, fd)
	} else if fd == p.maxfd {
		for p.maxfd >= 0 && (p.rd[p.maxfd/64]|p.wr[p.maxfd/64])&(1<<(p.maxfd%64)) == 0 {
			p.maxfd--
		}
	}
	return nil
}

func (p *selector) Wait(ev []Event, d time.Duration) (int, error) {
	words := p.maxfd/64 + 1
	copy(p.rout, p.rd[:words])
	copy(p.wout, p.wr[:words])
	var tv *unix.Timeval
	if d >= 0 {
		t := unix.NsecToTimeval(int64(min(d+time.Microsecond-1, 1<<30*time.Millisecond)))
		tv = &t
	}
	n, err := unix.Select(p.maxfd+1, fdSet(p.rout), fdSet(p.wout), nil, tv)
	switch {
	case err == unix.EINTR:
		return 0, nil
	case err == unix.EBADF:
		return p.bad(ev), nil
	case err != nil:
		return 0, err
	}
	if w, bit := p.wk.fd/64, uint64(1)<<(p.wk.fd%64); n > 0 && p.rout[w]&bit != 0 {
		p.wk.drain()
		p.rout[w] &^= bit
		n--
	}
	if p.next >= words {
		p.next = 0
	}
	k, w := 0, p.next
	for range words {
		r, wr := p.rout[w], p.wout[w]
		for m := r | wr; m != 0 && n > 0; m &= m - 1 {
			if k == len(ev) {
				p.next = w
				return k, nil
			}
			b := m & -m
			ev[k] = Event{FD: int32(64*w + bits.TrailingZeros64(m))}
			if r&b != 0 {
				ev[k].Ready |= Read
				n--
			}
			if wr&b != 0 {
				ev[k].Ready |= Write
				n--
			}
			k++
		}
		if w++; w == words {
			w = 0
		}
	}
	return k, nil
}

// bad finds the descriptors that select refused as not open and reports
// them as hung up, as poll does.
func (p *selector) bad(ev []Event) int {
	k := 0
	for fd := 0; fd <= p.maxfd && k < len(ev); fd++ {
		if (p.rd[fd/64]|p.wr[fd/64])&(1<<(fd%64)) == 0 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == unix.EBADF {
			ev[k] = Event{FD: int32(fd), Hup: true}
			k++
		}
	}
	return k
}

func fdSet(words []uint64) *unix.FdSet { return (*unix.FdSet)(unsafe.Pointer(&words[0])) }

func (p *selector) Wake() error { return p.wk.wake() }

func (p *selector) Close() error { return p.wk.close() }
