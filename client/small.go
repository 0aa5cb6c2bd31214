package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"

	"ndferry/array"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// maxSmall is the size in bytes of the largest array whose PUT is kept for the next one under its name.
const maxSmall = 8 << 10

// putForm is the PUT of a small array of one cell: of the next one like it only the id and the bytes differ. Immutable.
type putForm struct {
	dtype         array.DType
	shape         array.Shape
	codec, digest string
	relaxed       bool
	before, after []byte // of the id
}

// formal tells that a Put may have a form: all that the form does not say is as it is by default.
func formal(a *Array, o *PutOptions) bool {
	return len(a.Data) <= maxSmall && len(a.Data) > 0 && a.Order == nil && o.Cell == nil && o.ChunkBytes == 0 && (o.Digest == "" || o.Digest == CRC32C) &&
		o.Level == nil && o.Shuffle == "" && o.LinkRate == 0 && o.Attributes == nil && o.Dims == nil && !o.IfAbsent && !o.Resume &&
		o.Retries == 0 && o.Streams <= 1 && o.Streams >= 0 && o.Leaves == nil && o.Confirm == nil && o.Progress == nil
}

// fits tells that a and o are as what the form was made of.
func (f *putForm) fits(a *Array, o *PutOptions) bool {
	return f.codec == o.Codec && f.digest == o.Digest && f.relaxed == o.Relaxed && slices.Equal(f.shape, a.Shape) && f.dtype.Equal(a.DType)
}

// keepForm remembers the form of a Put that succeeded, if it has one that does not depend on the array's bytes.
func (c *Client) keepForm(u *upload) {
	a, ok := u.src.(*Array)
	if !ok || !formal(a, &u.opts) || u.params.Name != codec.None || u.grid.Len() != 1 || u.size != len(a.Data) || !u.stable {
		return
	}
	before, after, ok := cutOnce(wire.Encode(u.msg), `"id":"`, u.msg.ID.String())
	if !ok {
		return
	}
	f := &putForm{a.DType, slices.Clone(a.Shape), u.opts.Codec, u.opts.Digest, u.opts.Relaxed, before, after}
	c.state.Lock()
	defer c.state.Unlock()
	if c.forms == nil || len(c.forms) >= maxAlike {
		c.forms = map[string]*putForm{}
	}
	c.forms[u.msg.Name] = f
}

// putAlike puts an array for which there is a form. done is false when there is none, or when it cannot be sent at once.
func (c *Client) putAlike(ctx context.Context, name string, a *Array, opts *PutOptions) (r *Receipt, done bool, err error) {
	c.state.Lock()
	f := c.forms[name]
	c.state.Unlock()
	if f == nil || !f.fits(a, opts) {
		return nil, false, nil
	}
	if opts.ID == (wire.ID{}) {
		rand.Read(opts.ID[:])
	}
	done = true
	err = c.call(ctx, "put", name, func() (err error) {
		cost := wire.Cost(uint32(len(a.Data)))
		if done = c.credit >= cost; !done {
			return nil
		}
		c.credit -= cost
		r, err = c.putForm(f, name, a, opts)
		return err
	})
	return r, done, err
}

// putForm sends PUT, CHUNK and FINISH, and awaits the receipt.
func (c *Client) putForm(f *putForm, name string, a *Array, opts *PutOptions) (*Receipt, error) {
	c.stream++
	h := wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: c.stream, Length: uint32(len(f.before) + 2*len(opts.ID) + len(f.after))}
	c.out = wire.AppendHeader(c.out, h)
	at := len(c.out)
	c.out = append(c.out, f.before...)
	c.out = hex.AppendEncode(c.out, opts.ID[:])
	c.out = append(c.out, f.after...)
	c.out = wire.AppendTrailer(c.out, wire.Checksum(c.out[at:]), wire.Whole)
	size := uint32(len(a.Data))
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: c.stream, Raw: size}, a.Data)
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: c.stream, Index: 1}, nil)
	c.ended = true
	if err := c.flush(); err != nil {
		return nil, err
	}
	for {
		h, b, err := c.next()
		switch {
		case err != nil:
			return nil, err
		case h.Kind == wire.Receipt:
			return c.receipt(name, b)
		case h.Kind == wire.Resend:
			u, err := newUpload(name, a, *opts)
			if err != nil {
				return nil, err
			}
			u.params, c.ended = codec.Params{}, false
			if err := u.wantAgain(h); err != nil {
				return nil, err
			}
			return c.finish(u)
		case h.Kind != wire.Credit && h.Kind != wire.Ack && h.Kind.Known():
			return nil, wire.Failf(wire.CodeProtocol, "the server answered with %v where RECEIPT belongs", h.Kind)
		}
	}
}
