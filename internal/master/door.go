//go:build linux

package master

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/internal/handover"
)

// door accepts on one listener. Package net lets nobody wait for a listener but by its own Accept, which would make a connection of
// each descriptor that the master has no use for; so it waits on a copy, with a thread of its own: the runtime's poller would wake a
// thread for each connection, however many are accepted at a time.
type door struct {
	m      *Master
	number uint16
	fd     int                // the copy; closed by release
	wake   int                // an eventfd that ends the wait
	permit func(fd int) error // nil: all
	local  string             // empty: it differs
	sys    doorCalls          // owned by who is in accept
	closed atomic.Bool
}

// patient lets the calling thread, which must be locked, wait while others compute (SCHED_BATCH): on a machine with a free processor it
// runs at once; where all are busy it interrupts nobody for each connection, and several go to a worker in one message.
func patient() error {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return os.NewSyscallError("sched_getattr", err)
	}
	attr.Policy = unix.SCHED_BATCH
	attr.Flags |= unix.SCHED_FLAG_RESET_ON_FORK
	return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, attr, 0))
}

func openDoor(m *Master, number int, ln net.Listener) (*door, error) {
	d := &door{m: m, number: uint16(number), fd: -1, wake: -1}
	if p, ok := ln.(interface{ Permit(int) error }); ok {
		d.permit = p.Permit
	}
	if a, ok := ln.Addr().(*net.TCPAddr); !ok || !a.IP.IsUnspecified() {
		d.local = ln.Addr().String()
	}
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("master: listener %v: %w", ln.Addr(), err)
	}
	var opErr error
	if err := raw.Control(func(n uintptr) { d.fd, opErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || opErr != nil {
		return nil, fmt.Errorf("master: listener %v: %w", ln.Addr(), errors.Join(err, opErr))
	}
	if d.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(d.fd)
		return nil, fmt.Errorf("master: listener %v: %w", ln.Addr(), os.NewSyscallError("eventfd", err))
	}
	if _, ok := ln.(*net.TCPListener); ok {
		inherit(d.fd)
		ln.Close() // the copy listens on, and the poller knows it no more
	}
	return d, nil
}

// inherit sets on a listener what its connections get from it, at no cost for each: what package net sets on each, and what evloop does.
func inherit(fd int) {
	for _, o := range [][3]int{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_OOBINLINE, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		_ = unix.SetsockoptInt(fd, o[0], o[1], o[2]) // without it a connection works, too
	}
}

// close ends the wait of accept.
func (d *door) close() {
	d.closed.Store(true)
	_, _ = unix.Write(d.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// release gives the descriptors up. Nobody may be in accept.
func (d *door) release() {
	unix.Close(d.fd)
	unix.Close(d.wake)
}

// A door that has accepted as many as crowd at once was behind: it ran late, on the processor of who woke it, while another may
// have been free. It sleeps for a moment, after which the system places it anew, and more have come.
const (
	crowd  = 8
	gather = 50 * time.Microsecond
)

// accept accepts until the door is closed.
func (d *door) accept() error {
	runtime.LockOSThread() // and never unlocked: the thread ends with its policy
	if err := patient(); err != nil {
		d.m.cfg.Log.Debug("accepting interrupts who serves", "err", err)
	}
	pause := time.Duration(0)
	yielded := time.Now()
	for {
		if now := time.Now(); now.Sub(yielded) >= 5*time.Millisecond {
			yielded = now
			runtime.Gosched()
		}
		room := d.m.room()
		if room == 0 {
			return nil
		}
		batch, err := d.batch(room)
		d.m.enter(batch)
		if d.closed.Load() {
			return nil
		}
		if err == nil {
			pause = 0
			if len(batch) >= crowd {
				_ = unix.Nanosleep(&unix.Timespec{Nsec: int64(gather)}, nil)
			}
			continue
		}
		if !passing(err) {
			return fmt.Errorf("master: accept on %s: %w", d.local, err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		d.m.cfg.Log.Warn("accept", "err", err, "again_in", pause)
		time.Sleep(pause)
	}
}

func passing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// batch waits for a connection and accepts at most room of those that wait.
func (d *door) batch(room int) (batch []*custody, err error) {
	for !d.closed.Load() {
		for ready := d.sys.ready(d.fd); len(batch) < min(room, ready); {
			n, errno := d.sys.accept(d.fd)
			switch errno {
			case 0:
				if c := d.admit(n); c != nil {
					batch = append(batch, c)
				}
				continue
			case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EBADF, unix.EINVAL, unix.ENOTSOCK:
				return batch, os.NewSyscallError("accept4", errno)
			case unix.EAGAIN:
			default:
				continue // of a connection that is over already
			}
			break
		}
		if len(batch) > 0 {
			return batch, nil
		}
		wait := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(wait, -1); err != nil && err != unix.EINTR {
			return nil, os.NewSyscallError("poll", err)
		}
	}
	return batch, nil
}

// admit makes a custody of a connection that was just accepted, nil when it is nobody's to have.
func (d *door) admit(fd int) *custody {
	c := &custody{m: d.m, fd: fd}
	c.Accepted = time.Now().UnixNano()
	c.Listener = d.number
	if err := d.m.cfg.Step.At(handover.StepAccepted); err != nil {
		c.end()
		return nil
	}
	if d.permit != nil {
		if err := d.permit(fd); err != nil {
			d.m.cfg.Log.Debug("connection refused", "err", err)
			c.end()
			return nil
		}
	}
	var err error
	if c.Cookie, err = handover.Cookie(fd); err != nil {
		d.m.cfg.Log.Warn("connection without a cookie", "err", err)
		c.end()
		return nil
	}
	c.Client, c.Local = d.sys.peer(), d.local
	if c.Local == "" {
		if sa, err := unix.Getsockname(fd); err == nil {
			c.Local = addrText(sa)
		}
	}
	if err := d.m.cfg.Step.At(handover.StepDescribe); err != nil {
		c.end()
		return nil
	}
	return c
}

func addrText(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			addr = addr.WithZone(strconv.Itoa(int(sa.ZoneId)))
		}
		return netip.AddrPortFrom(addr.Unmap(), uint16(sa.Port)).String()
	case *unix.SockaddrUnix:
		return sa.Name
	}
	return ""
}
