package worker

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"ndferry/fdpass"
)

// Errors of Listen to test for with errors.Is, beside syscall.EADDRINUSE and those of package fs.
var (
	ErrInUse     = fdpass.ErrInUse     // a live process listens there
	ErrNotSocket = fdpass.ErrNotSocket // something else lies at the path
	ErrDirectory = fdpass.ErrDirectory // others could replace the socket
)

// ListenConfig is how Listen listens. The zero value works.
type ListenConfig struct {
	// SocketMode is the permission of a Unix socket's path; default 0600. A mode that lets others write admits every user whom
	// the file system lets in; else, and on abstract names, only this user and root are.
	SocketMode fs.FileMode
}

// Listen listens on an address in the form of package net: "tcp" with HOST:PORT, or "unix" with a path or @name. A path that a
// live process listens on is not taken over, a stale one is; closing the listener removes only what it made.
func Listen(ctx context.Context, network, address string, cfg ListenConfig) (net.Listener, error) {
	switch {
	case network == "tcp":
		var lc net.ListenConfig
		lc.SetMultipathTCP(false) // its sockets cannot be diagnosed and passed on as plain ones can
		ln, err := lc.Listen(ctx, network, address)
		if err != nil {
			return nil, fmt.Errorf("worker: %w", err)
		}
		return ln, nil
	case network != "unix":
		return nil, fmt.Errorf("worker: listen on %s: unknown network %q", address, network)
	case strings.HasPrefix(address, "@"):
		ln, err := fdpass.ListenAbstract(address[1:], fdpass.AbstractConfig{Type: fdpass.Stream})
		if err != nil {
			return nil, fmt.Errorf("worker: %w", err)
		}
		return ln, nil
	}
	path := fdpass.PathConfig{Type: fdpass.Stream, Mode: cfg.SocketMode, SharedDir: true}
	if cfg.SocketMode&0o022 != 0 {
		path.Allow = fdpass.AnyPeer
	}
	ln, err := fdpass.ListenPath(address, path)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	return ln, nil
}
