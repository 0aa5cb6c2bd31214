package worker

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/evloop"
	"ndferry/wire"
)

// acceptBatch is how many connections a turn of a loop begins with at most: who connects without end may not keep it from those who are
// connected.
const acceptBatch = 8

// door accepts on a TCP listener in the turns of a loop: a connection costs no goroutine, no second descriptor and no wake-up, and one that
// its client has reset meanwhile costs little but accepting it. The loop's goroutine owns the fields that are not said to be immutable.
type door struct {
	d     *loopDriver // immutable
	fd    int         // immutable
	watch *evloop.Watcher
	timer *evloop.Timer
	pause time.Duration
	first [256]byte // what a client has said already
	over  bool
	ended chan error // immutable; gets how it ended
}

// openDoor makes a copy of the listener's descriptor and closes ln: its connections are ours, not the runtime's, whose poller would wake
// a thread for each of them. Called with s.mu held, when the loops run.
func (s *Server) openDoor(ln *net.TCPListener) (*door, error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("worker: listener %v: %w", ln.Addr(), err)
	}
	o := &door{d: s.loops.all[0], ended: make(chan error, 1)}
	var opErr error
	if err := raw.Control(func(n uintptr) { o.fd, opErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || opErr != nil {
		return nil, fmt.Errorf("worker: listener %v: copy the descriptor: %w", ln.Addr(), errors.Join(err, opErr))
	}
	// What package net sets on each connection, and evloop asks for, connections get from their listener. Without it they work, too.
	for _, v := range [][3]int{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_OOBINLINE, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		_ = unix.SetsockoptInt(o.fd, v[0], v[1], v[2])
	}
	ln.Close()
	return o, nil
}

// serve accepts until the door is closed or the listener fails.
func (o *door) serve() error {
	if err := o.d.loop.Post(o.open); err != nil {
		_ = unix.Close(o.fd)
		return ErrServerClosed
	}
	return <-o.ended
}

// Close implements io.Closer: nothing is accepted any more. Any goroutine may call it.
func (o *door) Close() error {
	return o.d.loop.Post(func() { o.end(ErrServerClosed) })
}

func (o *door) end(err error) {
	if o.over {
		return
	}
	o.over = true
	o.rest()
	_ = unix.Close(o.fd)
	o.ended <- err
}

// open goes on after a rest.
func (o *door) open() {
	if o.over || o.watch != nil {
		return
	}
	var err error
	if o.watch, err = o.d.loop.Watch(o.fd, o.ready); err != nil {
		o.end(err)
	}
}

func (o *door) rest() {
	if o.watch != nil {
		o.watch.Stop()
		o.watch = nil
	}
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
}

// ready accepts some of those who wait.
func (o *door) ready() {
	for range acceptBatch {
		if !o.d.srv.admit.roomOr(func() { _ = o.d.loop.Post(o.open) }) {
			o.rest()
			return
		}
		fd, sa, err := unix.Accept4(o.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			o.pause = 0
			o.enter(fd, addrPort(sa))
		case unix.EAGAIN:
			return
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			o.short(err)
			return
		case unix.EBADF, unix.EINVAL, unix.ENOTSOCK:
			o.end(fmt.Errorf("worker: %w", os.NewSyscallError("accept4", err)))
			return
		default: // of a connection that is over already
		}
	}
}

// short waits for descriptors or memory.
func (o *door) short(err error) {
	o.rest()
	o.pause = min(max(2*o.pause, 5*time.Millisecond), time.Second)
	o.d.srv.cfg.Log.Warn("accept", "err", err, "again_in", o.pause)
	o.timer = o.d.loop.After(o.pause, func() {
		o.timer = nil
		o.open()
	})
}

// enter gives a connection to its loop, or closes it.
func (o *door) enter(fd int, peer netip.AddrPort) {
	s := o.d.srv
	t := s.admit.enterFrom(peer)
	if t == nil {
		s.cfg.Log.Debug("connection refused: over a limit", "peer", peer)
		_ = unix.Close(fd)
		return
	}
	said, ok := o.hear(fd)
	s.mu.Lock()
	if !ok || s.draining {
		s.mu.Unlock()
		_ = unix.Close(fd)
		t.leave()
		return
	}
	lc := newLoopConn(s.loops.place(), t)
	s.conns[lc] = struct{}{}
	s.done.Add(1)
	s.mu.Unlock()
	if lc.d == o.d {
		lc.d.enter(fd, peer, said, lc)
		return
	}
	said = bytes.Clone(said)
	if lc.d.loop.Post(func() { lc.d.enter(fd, peer, said, lc) }) != nil {
		_ = unix.Close(fd)
		s.forget(lc, t)
	}
}

// enter has the loop drive a TCP connection that has said so much. It runs there.
func (d *loopDriver) enter(fd int, peer netip.AddrPort, said []byte, lc *loopConn) {
	if _, err := d.loop.AdoptTCP(fd, peer, said, lc); err != nil {
		lc.dead = true
		lc.finish()
	}
}

// hear reads what a new connection has said, which is valid until the next call; not ok: its client has gone, and nobody needs an answer.
func (o *door) hear(fd int) (said []byte, ok bool) {
	for len(said) < wire.HeaderSize {
		n, err := unix.Read(fd, o.first[len(said):])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return said, true
		case err != nil || n == 0 && len(said) == 0:
			return nil, false
		case n == 0: // the rest is an error that the session is to hear of
			return said, true
		default:
			said = o.first[:len(said)+n]
		}
	}
	return said, true
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
