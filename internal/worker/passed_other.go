//go:build !linux

package worker

import (
	"errors"
	"net"

	"ndferry/internal/handover"
)

// master is never there: descriptors are passed on Linux.
type master struct{}

func (s *Server) giveFD(int, int, handover.Meta) error { return errors.ErrUnsupported }

func (s *Server) giveBack(net.Conn, int, handover.Meta) error { return errors.ErrUnsupported }
