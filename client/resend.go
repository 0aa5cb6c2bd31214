package client

import (
	"errors"
	"fmt"
	"slices"

	"ndferry/wire"
	"ndferry/wire/codec"
)

// Cells that were damaged on their way and come once more, spec/WIRE.md §5.1 and §5.2: a Put sends those that the other side asks for,
// a Get asks for those that came damaged, a receiver of Send does so with RESEND. Each at most wire.MaxDamages times.

// wantAgain notes that the other side asks for a cell again.
func (u *upload) wantAgain(h wire.Header) error {
	if h.Index >= uint64(u.grid.Len()) {
		return wire.Failf(wire.CodeProtocol, "RESEND of cell %d, there are %d", h.Index, u.grid.Len())
	}
	i := int(h.Index)
	if u.damages == nil {
		u.damages = map[int]int{}
	}
	if u.damages[i]++; u.damages[i] > wire.MaxDamages {
		return wire.Failf(wire.CodeProtocol, "RESEND of cell %d for the %dth time", i, u.damages[i])
	}
	u.again = append(u.again, i)
	return nil
}

// sendAgain sends the cells that were asked for again. A receipt ends the Put.
func (c *Client) sendAgain(u *upload) (*Receipt, error) {
	for len(u.again) > 0 {
		i := u.again[0]
		u.again = u.again[1:]
		data, err := u.read(i, c.scratch(u.size))
		if err == nil && u.params.Name != codec.None {
			data, err = codec.AppendEncode(nil, data, u.params)
		}
		if err != nil {
			return nil, c.giveUp(source{fmt.Errorf("cell %d was damaged on its way and cannot be read again: %w", i, err)}, u.opts.Resume)
		}
		if done, r, err := c.awaitCredit(u); done || err != nil {
			return r, err
		}
		h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: c.stream, Index: uint64(i), Raw: uint32(u.size), Length: uint32(len(data))}
		if err := c.sendCell(h, data); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// finish says that all cells are sent, and again behind those that were asked for again, until the receipt comes.
func (c *Client) finish(u *upload) (*Receipt, error) {
	if u.opts.Confirm != nil {
		if err := c.flush(); err != nil {
			return nil, err
		}
		if err := u.opts.Confirm(); err != nil {
			return nil, c.giveUp(source{err}, false)
		}
	}
	h := wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: c.stream, Index: uint64(u.grid.Len())}
	var payload []byte
	if u.leaves != nil {
		payload = wire.Encode(wire.FinishMessage{Root: wire.Root(u.meta.Root(u.leaves))})
	}
	for {
		if r, err := c.sendAgain(u); r != nil || err != nil {
			return r, err
		}
		c.out = wire.AppendFrame(c.out, h, payload)
		c.ended = true
		if err := c.flush(); err != nil {
			return nil, err
		}
		for len(u.again) == 0 {
			h, b, err := c.next()
			switch {
			case err != nil:
				return nil, err
			case h.Kind == wire.Receipt:
				return c.receipt(u.msg.Name, b)
			case h.Kind == wire.Resend:
				c.ended = false
				err = u.wantAgain(h)
			case h.Kind != wire.Credit && h.Kind != wire.Ack && h.Kind.Known():
				err = wire.Failf(wire.CodeProtocol, "the server answered with %v where RECEIPT belongs", h.Kind)
			}
			if err != nil {
				return nil, err
			}
		}
	}
}

// inOrderSink is a Sink that takes cells only in their order: what comes behind one that is damaged is of no use to it.
type inOrderSink interface{ inOrder() }

// errOrder ends an attempt of a Get whose next one begins with the damaged cell.
var errOrder = errors.New("a cell came damaged")

// damage notes that a cell came damaged, as why says. It returns nil when the cell may be asked for again, and why otherwise.
func (d *download) damage(cell int, why error) error {
	if d.ordered && d.ask != nil {
		return why // a sender goes on with the next cell
	}
	if d.damages == nil {
		d.damages = map[int]int{}
	}
	if d.damages[cell]++; d.damages[cell] > wire.MaxDamages {
		return why
	}
	if d.hurt == nil {
		d.hurt = map[int]bool{}
	}
	d.hurt[cell] = true
	if d.ordered {
		return errOrder
	}
	if d.ask == nil {
		return nil
	}
	d.queue = append(d.queue, cell)
	return d.askQueued(why)
}

// askQueued asks for cells, as long as few are unanswered: the sender may not read while it sends.
func (d *download) askQueued(why error) error {
	for len(d.queue) > 0 && len(d.hurt)-len(d.queue) < wire.MaxAsked {
		cell := d.queue[0]
		d.queue = d.queue[1:]
		if err := d.ask(cell, why); err != nil {
			return err
		}
	}
	return nil
}

// came notes a cell of n bytes as sent.
func (d *download) came(cell, n int) {
	d.got[cell] = true
	d.missing--
	d.stored += int64(n)
	delete(d.hurt, cell)
}

// askAgain is a receiver's RESEND; it returns why when the sender does not speak it.
func (c *Client) askAgain(cell int, why error) error {
	if !slices.Contains(c.peer.Features, wire.FeatureResend) {
		return why
	}
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Resend, Stream: c.stream, Index: uint64(cell)}, nil)
	return c.flush()
}
