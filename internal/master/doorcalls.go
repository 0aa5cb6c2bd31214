//go:build linux

package master

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// doorCalls is accept4 without what it costs to tell the scheduler of a call that never waits, and without an address that is allocated.
type doorCalls struct {
	addr unix.RawSockaddrAny
	size uint32
	info unix.TCPInfo
}

// accept accepts a connection that waits; EAGAIN: none does.
func (c *doorCalls) accept(fd int) (int, unix.Errno) {
	c.size = unix.SizeofSockaddrAny
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&c.addr)), uintptr(unsafe.Pointer(&c.size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), errno
}

// peer returns the address that the last accept told, as text; empty when it has none.
func (c *doorCalls) peer() string {
	switch c.addr.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(&c.addr))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port(&a.Port)).String()
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(&c.addr))
		addr := netip.AddrFrom16(a.Addr)
		if a.Scope_id != 0 {
			addr = addr.WithZone(strconv.Itoa(int(a.Scope_id)))
		}
		return netip.AddrPortFrom(addr.Unmap(), port(&a.Port)).String()
	case unix.AF_UNIX:
		path := (*unix.RawSockaddrUnix)(unsafe.Pointer(&c.addr)).Path[:]
		name := make([]byte, 0, len(path))
		for i := 0; i < min(int(c.size)-2, len(path)) && (path[i] != 0 || i == 0); i++ {
			name = append(name, byte(path[i]))
		}
		if len(name) > 0 && name[0] == 0 { // abstract
			name[0] = '@'
		}
		return string(name)
	}
	return ""
}

// port reads a number in the network's byte order.
func port(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }

// ready returns how many connections wait at a listener, as far as that can be known.
func (c *doorCalls) ready(fd int) int {
	c.size = uint32(unsafe.Sizeof(c.info))
	if _, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO, uintptr(unsafe.Pointer(&c.info)), uintptr(unsafe.Pointer(&c.size)), 0); errno != 0 {
		return 1 << 20
	}
	return int(c.info.Unacked)
}
