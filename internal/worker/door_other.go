//go:build !linux

package worker

import (
	"errors"
	"net"
)

// door is for Linux.
type door struct{}

func (s *Server) openDoor(*net.TCPListener) (*door, error) { return nil, errors.ErrUnsupported }

func (*door) serve() error { return errors.ErrUnsupported }

func (*door) Close() error { return nil }
