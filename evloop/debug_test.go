//go:build linux || darwin || freebsd

package evloop

import "fmt"

func (c *Conn) debugState() string {
	if c == nil {
		return "no connection"
	}
	return fmt.Sprintf("state %d flags %b pauses %d have %d in %d out %d sink %v", c.state, c.flags, c.pauses, c.have, len(c.in), c.Queued(), c.sink != nil)
}
