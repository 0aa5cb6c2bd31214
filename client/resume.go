package client

import (
	"ndferry/wire"
)

// accepted waits for what the server has of a resumable Put already: the receipt, or cells.
func (c *Client) accepted(u *upload) (*Receipt, error) {
	if err := c.flush(); err != nil {
		return nil, err
	}
	for {
		h, b, err := c.next()
		switch {
		case err != nil:
			return nil, err
		case h.Kind == wire.Receipt:
			return c.receipt(u.msg.Name, b)
		case h.Kind == wire.Accept:
			return nil, u.takeUp(b)
		case h.Kind != wire.Credit && h.Kind != wire.Ack && h.Kind.Known():
			return nil, wire.Failf(wire.CodeProtocol, "the server answered with %v where ACCEPT belongs", h.Kind)
		}
	}
}

// takeUp notes the cells of an ACCEPT.
func (u *upload) takeUp(b []byte) error {
	var m wire.AcceptMessage
	if err := wire.Decode(b, &m); err != nil {
		return err
	}
	if err := m.Check(); err != nil {
		return err
	}
	n := uint64(u.grid.Len())
	u.done, u.durable = make([]bool, n), 0
	for _, r := range m.Durable {
		if r[0] >= n || r[1] > n-r[0] {
			return wire.Failf(wire.CodeProtocol, "ACCEPT names %d cells from %d, there are %d", r[1], r[0], n)
		}
		for i := r[0]; i < r[0]+r[1]; i++ {
			u.done[i] = true
		}
		u.durable += int(r[1])
	}
	if u.opts.Progress != nil && u.durable > 0 {
		u.opts.Progress(int64(u.durable)*int64(u.size), int64(n)*int64(u.size))
	}
	return nil
}

// accepted tells that the server has cell i.
func (u *upload) accepted(i int) bool { return u.done != nil && u.done[i] }

// has tells that nothing of cell i is needed any more: the server has it, and its leaf is known when there is one.
func (u *upload) has(i int) bool { return u.accepted(i) && (u.leaves == nil || u.hashed[i]) }

// unhashed tells that the leaf of cell i is still to be made.
func (u *upload) unhashed(i int) bool { return u.leaves != nil && !u.hashed[i] }

// noteLeaf keeps the leaf of a cell that was unhashed.
func (u *upload) noteLeaf(i int, leaf [32]byte) {
	if u.unhashed(i) {
		u.leaves[i], u.hashed[i] = leaf, true
		if u.opts.Leaves != nil {
			u.opts.Leaves.Keep(i, leaf)
		}
	}
}
