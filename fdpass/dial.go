//go:build linux || darwin || freebsd

package fdpass

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds a dial whose context has no deadline.
const dialTimeout = 30 * time.Second

// DialConfig configures DialPath and DialAbstract. The zero value works.
type DialConfig struct {
	// Type of the socket; the zero value is Seqpacket.
	Type Type
	// Allow decides about the listener by the credentials it had when it began
	// to listen; nil is SameUser.
	Allow Allow
}

// DialPath connects to a path socket, checks who listens there, and waits while
// the listener's queue is full, at most 30 s if ctx has no deadline.
//
// Errors to test for: ErrPeerDenied, ErrTimeout, ErrPeerGone (a socket without a
// listener), those of package fs, and ctx's own.
func DialPath(ctx context.Context, path string, cfg DialConfig) (*Conn, error) {
	var c *Conn
	err := withSockName(path, func(name string) (err error) {
		c, err = dial(ctx, name, cfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fdpass: dial %s: %w", path, err)
	}
	return c, nil
}

func dial(ctx context.Context, name string, cfg DialConfig) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	u, err := connect(ctx, name, cfg.Type)
	if err != nil {
		return nil, err
	}
	if err := checkPeer("dial", u, cfg.Allow); err != nil {
		u.Close()
		return nil, err
	}
	return ownSocket(u)
}

// connect retries while the queue is full: a non-blocking connect on a Unix
// socket then fails with EAGAIN, and nothing tells when there is room.
func connect(ctx context.Context, name string, typ Type) (*net.UnixConn, error) {
	var d net.Dialer
	backoff := firstBackoff
	for {
		c, err := d.DialContext(ctx, typ.String(), name)
		if err == nil {
			return c.(*net.UnixConn), nil
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("%w: %w", ErrPeerGone, err)
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, dialError(ctx, err)
		}
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w: the listener's queue is full: %w", contextError(ctx), err)
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// dialError makes the errors of package net, which has a timeout of its own,
// match what this package promises.
func dialError(ctx context.Context, err error) error {
	var timeout net.Error
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", contextError(ctx), err)
	}
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// AcceptConn is Accept as a Conn.
func (l *Listener) AcceptConn() (*Conn, error) {
	u, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return ownSocket(u)
}
