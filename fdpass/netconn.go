//go:build linux || darwin || freebsd

package fdpass

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	_ net.Conn     = (*SocketConn)(nil)
	_ syscall.Conn = (*SocketConn)(nil)
)

// SocketConn is a received stream socket as a net.Conn. Unlike net.FileConn it
// duplicates nothing and leaves the socket's options (TCP_NODELAY, keep-alive)
// as the sender set them. Methods may be called from several goroutines.
type SocketConn struct {
	file          *os.File
	local, remote net.Addr // immutable after New
	closed        atomic.Bool
}

// TakeConn is Take for a connected stream socket. It switches the open file
// description, which the sender shares, to non-blocking mode. On an error the
// descriptor stays in the set.
func (f *Files) TakeConn(i int) (*SocketConn, error) {
	fd := f.Peek(i)
	if fd < 0 {
		_, err := f.Take(i)
		return nil, err
	}
	local, remote, err := streamAddrs(fd)
	if err != nil {
		return nil, fmt.Errorf("fdpass: take descriptor %d as a connection: %w", i, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("fdpass: take descriptor %d as a connection: %w", i, err)
	}
	f.fds[i] = -1
	name := local.Network() + " " + local.String()
	return &SocketConn{file: os.NewFile(uintptr(fd), name), local: local, remote: remote}, nil
}

// TakeListener is Take for a listening stream socket. The runtime's own
// listener is made of it, for which package net duplicates the descriptor once
// and the original is closed. A Unix listener does not remove its path.
func (f *Files) TakeListener(i int) (net.Listener, error) {
	fd := f.Peek(i)
	if fd < 0 {
		_, err := f.Take(i)
		return nil, err
	}
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		if err == nil {
			err = unix.EINVAL
		}
		return nil, fmt.Errorf("fdpass: take descriptor %d as a listener: it does not listen: %w", i, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("fdpass: take descriptor %d as a listener: %w", i, err)
	}
	f.fds[i] = -1
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	ln, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("fdpass: take descriptor %d as a listener: %w", i, err)
	}
	return ln, nil
}

// Read reads from the connection.
func (c *SocketConn) Read(p []byte) (int, error) {
	n, err := c.file.Read(p)
	if err != nil && err != io.EOF {
		err = c.opError("read", err)
	}
	return n, err
}

// Write writes to the connection.
func (c *SocketConn) Write(p []byte) (int, error) {
	n, err := c.file.Write(p)
	if err != nil {
		err = c.opError("write", err)
	}
	return n, err
}

// LocalAddr returns the address of this end.
func (c *SocketConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other end.
func (c *SocketConn) RemoteAddr() net.Addr { return c.remote }

// CloseWrite tells the peer that no more bytes come.
func (c *SocketConn) CloseWrite() error { return c.shutdown(unix.SHUT_WR) }

// Close ends the connection for the peer, also while another process holds a
// copy of the descriptor. To give up this copy alone, call Release.
func (c *SocketConn) Close() error {
	if c.closed.Swap(true) {
		return c.opError("close", net.ErrClosed)
	}
	err := c.shutdown(unix.SHUT_RDWR)
	if errors.Is(err, unix.ENOTCONN) {
		err = nil // the peer was faster
	}
	return errors.Join(err, c.file.Close())
}

// Release closes this copy of the descriptor and leaves the connection to
// whoever holds another.
func (c *SocketConn) Release() error {
	if c.closed.Swap(true) {
		return c.opError("release", net.ErrClosed)
	}
	return c.file.Close()
}

// SetDeadline ends waiting Reads and Writes at t; zero means never.
func (c *SocketConn) SetDeadline(t time.Time) error { return c.file.SetDeadline(t) }

// SetReadDeadline is SetDeadline for Read alone.
func (c *SocketConn) SetReadDeadline(t time.Time) error { return c.file.SetReadDeadline(t) }

// SetWriteDeadline is SetDeadline for Write alone.
func (c *SocketConn) SetWriteDeadline(t time.Time) error { return c.file.SetWriteDeadline(t) }

// SyscallConn lends the descriptor.
func (c *SocketConn) SyscallConn() (syscall.RawConn, error) { return c.file.SyscallConn() }

func (c *SocketConn) shutdown(how int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return c.opError("close", err)
	}
	var opErr error
	if err := raw.Control(func(fd uintptr) { opErr = unix.Shutdown(int(fd), how) }); err != nil {
		return c.opError("close", err)
	}
	if opErr != nil {
		return c.opError("close", opErr)
	}
	return nil
}

// opError gives errors the form that callers of a net.Conn expect.
func (c *SocketConn) opError(op string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if c.closed.Load() || errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

func streamAddrs(fd int) (local, remote net.Addr, err error) {
	sotype, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, nil, err
	}
	if sotype != unix.SOCK_STREAM {
		return nil, nil, fmt.Errorf("not a stream socket: %w", unix.EPROTOTYPE)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, nil, err
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return nil, nil, err
	}
	return netAddr(sa), netAddr(peer), nil
}

func netAddr(sa unix.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		addr := &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		if sa.ZoneId != 0 {
			if ifi, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				addr.Zone = ifi.Name
			}
		}
		return addr
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}
	}
	return &net.UnixAddr{Net: "unknown"}
}
