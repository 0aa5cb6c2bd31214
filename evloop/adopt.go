//go:build linux || darwin || freebsd

package evloop

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Adopt takes a connected descriptor, of a socket or a pipe, that came from
// Detach, another process or anywhere else, with the bytes that were already
// read from it. The loop owns fd from now on, also if Adopt fails, and makes
// it non-blocking and close-on-exec. preread is copied, and Data is called
// with it in the loop's next turn.
//
// Call it on the loop's goroutine, or before Run.
func (l *Loop) Adopt(fd int, preread []byte, h Handler) (*Conn, error) {
	l.quota.claim()
	if err := setCommon(fd); err != nil {
		_ = unix.Close(fd)
		l.quota.release()
		return nil, fmt.Errorf("evloop: adopt descriptor %d: %w", fd, err)
	}
	peer, _ := unix.Getpeername(fd)
	if kindOf(fd, peer) == kindTCP {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	}
	return l.adopt(fd, peer, preread, h)
}

// AdoptTCP is Adopt for a TCP connection of which the caller knows what Adopt
// asks the system: fd is non-blocking and close-on-exec, urgent data is taken
// in line, and peer is at the other end. Nothing is asked again, and what the
// peer has sent meanwhile is read in this turn, without asking the poller. The
// loop owns fd from now on, also if AdoptTCP fails.
func (l *Loop) AdoptTCP(fd int, peer netip.AddrPort, preread []byte, h Handler) (*Conn, error) {
	l.quota.claim()
	var sa unix.Sockaddr
	if addr := peer.Addr(); addr.Is4() {
		sa = &unix.SockaddrInet4{Port: int(peer.Port()), Addr: addr.As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(peer.Port()), Addr: addr.As16()}
	}
	c, err := l.adopt(fd, sa, preread, h)
	if err == nil && c.state == stOpen {
		c.flags |= flFresh
		l.pushAgain(c)
	}
	return c, err
}

// adopt makes the Conn of a non-blocking descriptor for which the quota was
// claimed.
func (l *Loop) adopt(fd int, peer unix.Sockaddr, preread []byte, h Handler) (*Conn, error) {
	c := l.newConn(fd, peer, h)
	c.state = stOpen
	if c.register(Read | Watch); c.state == stClosed {
		return nil, fmt.Errorf("evloop: adopt descriptor %d: %w", fd, ErrClosed)
	}
	if len(preread) > 0 {
		c.grow(preread)
		l.pushAgain(c)
	}
	c.opened()
	return c, nil
}

// newConn enters a descriptor into the loop's table.
func (l *Loop) newConn(fd int, peer unix.Sockaddr, h Handler) *Conn {
	c := &Conn{
		loop: l, h: h, fd: int32(fd), peer: peer, slot: -1,
		maxIn: int32(min(l.cfg.MaxUnread, 1<<31-1)), idle: int64(l.cfg.Idle),
	}
	c.kind = kindOf(fd, peer)
	c.st.openedAt, c.st.lastIO = l.now, l.now
	if fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*Conn, fd+1-len(l.conns)+len(l.conns)/2)...)
	}
	l.conns[fd] = c
	l.count(+1)
	return c
}

func kindOf(fd int, peer unix.Sockaddr) connKind {
	switch peer.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		return kindTCP
	case *unix.SockaddrUnix:
		return kindUnix
	}
	switch domain, err := domainOf(fd); {
	case err != nil:
		return kindPlain
	case domain == unix.AF_UNIX:
		return kindUnix
	}
	return kindTCP
}

func (c *Conn) opened() {
	c.flags |= flOpened
	c.loop.guarded(c, func() { c.h.Open(c) })
	if c.state == stOpen && c.idle != 0 && c.slot < 0 {
		c.SetIdle(c.loop.cfg.Idle)
	}
}

// Dial connects without blocking. address is as for Listen; host names are
// refused, because looking them up blocks. h.Open is called when the
// connection stands; if that fails, h.Close alone is called, with the
// reason. Call it on the loop's goroutine, or before Run.
func (l *Loop) Dial(network, address string, h Handler) (*Conn, error) {
	domain, sa, err := resolve(network, address)
	if err != nil {
		return nil, fmt.Errorf("evloop: dial %s %s: %w", network, address, err)
	}
	fd, err := newSocket(domain)
	if err != nil {
		return nil, fmt.Errorf("evloop: dial %s %s: %w", network, address, err)
	}
	if domain != unix.AF_UNIX {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("evloop: dial %s %s: %w", network, address, err)
	}
	l.quota.claim()
	c := l.newConn(fd, sa, h)
	c.deadline = l.clock() + int64(l.cfg.DialTimeout)
	l.wheel.arm(c, c.deadline)
	if c.register(Write | Watch); c.state == stClosed {
		return nil, fmt.Errorf("evloop: dial %s %s: %w", network, address, ErrClosed)
	}
	return c, nil
}

// connected finishes a Dial.
func (c *Conn) connected() {
	l := c.loop
	if e := l.k.SockError(int(c.fd)); e != 0 {
		c.fail("dial", e)
		return
	}
	l.wheel.remove(c)
	c.state = stOpen
	c.st.openedAt, c.st.lastIO = l.now, l.now
	c.opened()
}
