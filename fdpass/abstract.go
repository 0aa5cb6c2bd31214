//go:build linux || darwin || freebsd

package fdpass

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// AbstractConfig configures ListenAbstract. The zero value works.
type AbstractConfig struct {
	// Type of the socket; the zero value is Seqpacket.
	Type Type
	// Allow decides about peers; nil is SameUser. It is the only guard that an
	// abstract name has.
	Allow Allow
}

// ListenAbstract listens on a Linux abstract name, given without the leading @
// or zero byte. Read the package comment first: an abstract name has no
// permissions, is reachable from every process of the network namespace and can
// be squatted when its owner is gone. A name that others cannot guess, handed
// over by other means, is the least that it needs beside the check of the peer.
//
// Errors to test for: ErrInUse, errors.ErrUnsupported on other systems.
func ListenAbstract(name string, cfg AbstractConfig) (*Listener, error) {
	addr, err := abstractAddr(name)
	if err != nil {
		return nil, fmt.Errorf("fdpass: listen on @%s: %w", name, err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), cfg.Type.String(), addr)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("fdpass: listen on %s: %w: %w", addr, ErrInUse, err)
	}
	if err != nil {
		return nil, fmt.Errorf("fdpass: listen on %s: %w", addr, err)
	}
	l := &Listener{ln: ln.(*net.UnixListener), allow: cfg.Allow}
	l.addr = net.UnixAddr{Name: addr, Net: cfg.Type.String()}
	return l, nil
}

// DialAbstract is DialPath for an abstract name, given without the leading @.
// The check of the peer is what tells the listener from a squatter.
func DialAbstract(ctx context.Context, name string, cfg DialConfig) (*Conn, error) {
	addr, err := abstractAddr(name)
	if err != nil {
		return nil, fmt.Errorf("fdpass: dial @%s: %w", name, err)
	}
	c, err := dial(ctx, addr, cfg)
	if err != nil {
		return nil, fmt.Errorf("fdpass: dial %s: %w", addr, err)
	}
	return c, nil
}

func abstractAddr(name string) (string, error) {
	if runtime.GOOS != "linux" {
		return "", fmt.Errorf("abstract names exist on Linux alone: %w", errors.ErrUnsupported)
	}
	if name == "" || len(name) > maxSockName || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("an abstract name has 1 to %d bytes and no zero byte", maxSockName)
	}
	return "@" + name, nil
}
