package client

import (
	"ndferry/internal/pace"
	"ndferry/wire"
)

// granting is what the server may send of cells. With a nil window it was told to send as fast as the stream takes it.
type granting struct {
	window *pace.Window
	given  uint64 // granted, HELLO's too
	came   uint64 // of it, what is here
	cell   uint64 // cost of a cell of the GET that runs, or ran last
}

// grantingOn is for a connection; only what is known of its link can bound what is on its way.
func grantingOn(nc any) granting {
	link := pace.LinkOf(nc)
	if link == nil {
		return granting{}
	}
	if _, ok := link(); !ok {
		return granting{}
	}
	return granting{window: pace.New(pace.Config{First: wire.FirstCredit, Most: wire.MostCredit, Link: link}), given: wire.FirstCredit}
}

// first is the credit for HELLO.
func (g *granting) first() uint64 {
	if g.window == nil {
		return wire.MaxCredit
	}
	return g.given
}

// expect is told how large the cells are that come next, and sees that one can.
func (c *Client) expect(size int) {
	c.grants.cell = wire.Cost(uint32(size))
	c.arrived(0)
}

// arrived is told of n bytes of credit that the server has used and that are here, and gives it what it is worth to give. It may be called in
// the middle of a payload. When it fails to write, reading tells why.
func (c *Client) arrived(n uint64) {
	g := &c.grants
	if g.window == nil {
		return
	}
	if n > 0 {
		g.came += n
		g.window.Arrived(n)
	}
	size, step := g.window.Size(g.cell)
	if g.came+size < g.given+step {
		return
	}
	more := g.came + size - g.given
	g.given += more
	c.patience(c.nc.SetWriteDeadline)
	_, _ = c.nc.Write(wire.AppendHeader(nil, wire.Header{Kind: wire.Credit, Index: more}))
}
