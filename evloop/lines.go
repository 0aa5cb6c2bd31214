//go:build linux || darwin || freebsd

package evloop

import (
	"bytes"
	"fmt"
)

var _ Handler = (*Lines)(nil)

// Lines is a Handler that cuts the stream at newlines. Bytes are bytes: any
// encoding, NUL and empty lines pass. One value serves one connection.
type Lines struct {
	Base
	// Max is the longest line in bytes, without its newline; default 1 MiB.
	// A longer one fails the connection with ErrTooLong, as soon as that
	// many bytes are there without a newline.
	Max int
	// Line is called for each line with its own ending, "\n" or "\r\n". The
	// bytes are valid only inside the call. An error closes the connection
	// in order.
	Line func(c *Conn, line []byte) error
	// Ended, if not nil, is called from Close.
	Ended func(c *Conn, err error)

	scanned int // of the unread bytes, without a newline
}

func (h *Lines) max() int {
	if h.Max == 0 {
		return 1 << 20
	}
	return h.Max
}

// Open makes room for the longest line.
func (h *Lines) Open(c *Conn) { c.SetMaxUnread(h.max() + 2) }

// Data calls Line for every complete line. What follows the last newline is
// scanned once, however often it is offered again.
func (h *Lines) Data(c *Conn, b []byte) (used int) {
	for !c.Closed() && !c.paused() {
		rest := b[used:]
		i := bytes.IndexByte(rest[h.scanned:], '\n')
		if i < 0 {
			h.scanned = len(rest)
			if len(rest) > h.max() {
				c.Abort(fmt.Errorf("evloop: line of more than %d bytes: %w", h.max(), ErrTooLong))
			}
			return used
		}
		n := h.scanned + i + 1
		if n-1 > h.max() {
			c.Abort(fmt.Errorf("evloop: line of more than %d bytes: %w", h.max(), ErrTooLong))
			return used
		}
		h.scanned = 0
		used += n
		c.CountFrame()
		if err := h.Line(c, rest[:n]); err != nil {
			c.Close()
			return used
		}
	}
	return used
}

// Close calls Ended.
func (h *Lines) Close(c *Conn, err error) {
	if h.Ended != nil {
		h.Ended(c, err)
	}
}
