//go:build linux || darwin || freebsd

package evloop

import "fmt"

var (
	_ Handler = (*Frames)(nil)
	_ Sink    = (*Frames)(nil)
)

// Frames is a Handler that cuts the stream into messages of a fixed-size
// header and a payload whose size the header tells. One value serves one
// connection.
type Frames struct {
	Base
	// HeaderSize is the header's length in bytes, at least 1.
	HeaderSize int
	// Max is the largest payload; default 1 MiB. A larger one fails the
	// connection with ErrTooLong before anything is allocated.
	Max int
	// Size reads the payload's length in bytes from a header. An error
	// fails the connection.
	Size func(header []byte) (int, error)
	// Into, if not nil, may return memory of exactly n bytes for a payload
	// of n > 0 bytes: it is then read there directly. With nil the payload
	// is collected in the connection.
	Into func(c *Conn, header []byte, n int) []byte
	// Frame is called for each message. header, and payload unless Into
	// gave it, are valid only inside the call. An error closes the
	// connection in order.
	Frame func(c *Conn, header, payload []byte) error
	// Ended, if not nil, is called from Close.
	Ended func(c *Conn, err error)

	header []byte // of the payload that is read by Into
	dst    []byte
}

func (h *Frames) max() int {
	if h.Max == 0 {
		return 1 << 20
	}
	return h.Max
}

// Open makes room for the largest message that can be collected.
func (h *Frames) Open(c *Conn) { c.SetMaxUnread(h.HeaderSize + h.max() + 1) }

// Data calls Frame for every complete message.
func (h *Frames) Data(c *Conn, b []byte) (used int) {
	for !c.Closed() && !c.paused() && len(b)-used >= h.HeaderSize {
		head := b[used : used+h.HeaderSize]
		n, err := h.Size(head)
		if err == nil && (n < 0 || n > h.max()) {
			err = fmt.Errorf("evloop: payload of %d bytes, limit %d: %w", n, h.max(), ErrTooLong)
		}
		if err != nil {
			c.Abort(err)
			return used
		}
		if h.Into != nil && n > 0 {
			if dst := h.Into(c, head, n); dst != nil {
				if len(dst) != n {
					panic(fmt.Sprintf("evloop: Into gave %d bytes for %d", len(dst), n))
				}
				h.header, h.dst = append(h.header[:0], head...), dst
				_ = c.ReadInto(dst, h) // fails only if Into closed the connection
				return used + h.HeaderSize
			}
		}
		if len(b)-used-h.HeaderSize < n {
			return used
		}
		end := used + h.HeaderSize + n
		payload := b[used+h.HeaderSize : end]
		used = end
		c.CountFrame()
		if err := h.Frame(c, head, payload); err != nil {
			c.Close()
			return used
		}
	}
	return used
}

// Part is Sink's: nothing to do before the end.
func (h *Frames) Part(*Conn, []byte) {}

// Done is Sink's: the payload is complete.
func (h *Frames) Done(c *Conn, err error) {
	dst := h.dst
	h.dst = nil
	if err == nil {
		if err := h.Frame(c, h.header, dst); err != nil {
			c.Close()
		}
	}
}

// Close calls Ended.
func (h *Frames) Close(c *Conn, err error) {
	if h.Ended != nil {
		h.Ended(c, err)
	}
}
