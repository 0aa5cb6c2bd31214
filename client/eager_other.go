//go:build !unix

package client

import (
	"io"
	"net"
)

// eagerly is what reads nc best.
func eagerly(nc net.Conn) io.Reader { return nc }
