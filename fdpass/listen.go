//go:build linux || darwin || freebsd

package fdpass

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	_ net.Listener = (*Listener)(nil)
	_ syscall.Conn = (*Listener)(nil)
)

// Type is the type of a Unix socket.
type Type int

const (
	// Seqpacket keeps message boundaries. The default; darwin lacks it.
	Seqpacket Type = iota
	// Stream is a byte stream, for SendFrame and RecvFrame or for any protocol
	// of the caller's.
	Stream
)

// String returns the name that package net has for the type.
func (t Type) String() string {
	if t == Stream {
		return "unix"
	}
	return "unixpacket"
}

// Listener accepts connections on a Unix socket and turns away peers that its
// Allow refuses. All methods may be called from several goroutines.
type Listener struct {
	ln     *net.UnixListener
	addr   net.UnixAddr // immutable after New
	allow  Allow        // immutable after New
	denied atomic.Uint64
}

// Accept waits for the next allowed peer and returns its *net.UnixConn. Peers
// that are not allowed are closed and counted, and the wait goes on.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptUnix is Accept with the concrete type.
func (l *Listener) AcceptUnix() (*net.UnixConn, error) {
	for {
		c, err := l.ln.AcceptUnix()
		if err != nil {
			return nil, fmt.Errorf("fdpass: accept on %s: %w", l.addr.Name, err)
		}
		if err := checkPeer("accept", c, l.allow); err != nil {
			if errors.Is(err, ErrPeerDenied) {
				l.denied.Add(1)
			}
			c.Close()
			continue
		}
		return c, nil
	}
}

// Denied returns how many peers were turned away.
func (l *Listener) Denied() uint64 { return l.denied.Load() }

// Addr returns the address that was asked for.
func (l *Listener) Addr() net.Addr { a := l.addr; return &a }

// SetDeadline ends a waiting Accept with ErrTimeout at t; zero means never.
func (l *Listener) SetDeadline(t time.Time) error { return l.ln.SetDeadline(t) }

// SyscallConn lends the descriptor, for an event loop that accepts by itself.
// Such a loop must check its peers with Permit.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return l.ln.SyscallConn() }

// Permit returns an error that matches ErrPeerDenied unless the peer of the
// connected descriptor fd may use this listener. It borrows fd.
func (l *Listener) Permit(fd int) error {
	cred, err := peerCred(fd)
	if err != nil {
		return fmt.Errorf("fdpass: accept: peer credentials: %w", err)
	}
	if !l.allow.allows(cred) {
		l.denied.Add(1)
		return fmt.Errorf("fdpass: accept: peer runs as uid %d (pid %d): %w", cred.UID, cred.PID, ErrPeerDenied)
	}
	return nil
}

// Close stops accepting.
func (l *Listener) Close() error { return l.ln.Close() }
