package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"ndferry/array"
	"ndferry/wire"
)

// Stat describes a stored array.
type Stat struct {
	Name        string
	ID          wire.ID     // of the transfer that stored it
	DType       array.DType // as NumPy has it
	Stored      array.DType // as it travels and rests; see array.DType.Stored
	Shape       array.Shape
	Order       array.Order // memory order of the axes
	Chunks      array.Shape // shape of a chunk
	Codec       string      // none, or the compressor of the chunks
	CodecWhy    string      // why auto chose it; "" when it was asked for
	Validated   string      // as in Receipt
	Bytes       int64       // raw
	StoredBytes int64
	Cells       int
	Digest      string
	Root        string // hex, with digest sha256
	Attributes  []byte // the text of a JSON object, as it came
	DimNames    []array.DimName
	Durability  string
	Created     time.Time
}

// clone is a copy that shares nothing.
func (s *Stat) clone() *Stat {
	t := *s
	t.Shape, t.Order, t.Chunks = slices.Clone(s.Shape), slices.Clone(s.Order), slices.Clone(s.Chunks)
	t.Attributes, t.DimNames = slices.Clone(s.Attributes), slices.Clone(s.DimNames)
	return &t
}

// GetOptions say how an array is read. The zero value works.
type GetOptions struct {
	Into     []byte // memory for the elements, of exactly their size; default new memory
	Retries  int    // attempts after the first, for what did not come yet, when the connection breaks
	Streams  int    // connections to use, 1 to MaxStreams, when the server takes them; default 1
	Progress func(done, total int64)
}

// Get returns an array, every cell checked against what was recorded when it was stored.
func (c *Client) Get(ctx context.Context, name string, opts GetOptions) (*Array, error) {
	sink := &memorySink{Array: Array{Data: opts.Into}}
	if _, err := c.GetTo(ctx, name, sink, opts); err != nil {
		return nil, err
	}
	return &sink.Array, nil
}

// GetTo is Get with a Sink. After an error the sink has got any part of the array. When the array was replaced between two
// attempts it comes anew from its beginning, and the sink's Begin is called again.
func (c *Client) GetTo(ctx context.Context, name string, sink Sink, opts GetOptions) (*Stat, error) {
	if err := array.CheckName(name); err != nil {
		return nil, invalid("get", name, err)
	}
	if opts.Streams < 0 || opts.Streams > MaxStreams {
		return nil, invalid("get", name, fmt.Errorf("%d streams, 1 to %d are allowed", opts.Streams, MaxStreams))
	}
	var st *Stat
	d := &download{sink: sink}
	err := c.retry(ctx, opts.Retries, func() (moved bool, err error) {
		before := d.missing
		err = c.call(ctx, "get", name, func() (err error) {
			st, err = c.get(ctx, name, d, opts)
			return err
		})
		return d.missing < before, err
	})
	return st, err
}

// get receives the cells, and once more those that came damaged, until there are none.
func (c *Client) get(ctx context.Context, name string, d *download, opts GetOptions) (*Stat, error) {
	if st, done, err := c.describe(name, d); done || err != nil {
		return st, err
	}
	if opts.Streams > 1 {
		if st, done, err := c.getShared(ctx, name, d, opts); done || err != nil {
			return st, err
		}
	}
	clear(d.damages)
	for {
		clear(d.hurt)
		st, err := c.getOnce(name, d, opts)
		if again := errors.Is(err, errOrder) && c.whyBroken() == nil; !again && (err != nil || d.missing == 0) {
			return st, err
		}
	}
}

func (c *Client) getOnce(name string, d *download, opts GetOptions) (*Stat, error) {
	c.request(wire.Get, wire.GetMessage{Name: name, Cells: d.wanted(), Takes: d.takes()})
	if err := c.flush(); err != nil {
		return nil, err
	}
	_, b, err := c.reply(wire.Meta)
	if err != nil {
		return nil, err
	}
	st, meta, err := c.meta(name, b)
	if err != nil {
		return nil, err
	}
	d.refuse = c.abandon
	switch again, err := d.begin(st, meta); {
	case again != nil:
		d.got = nil // the next attempt asks for all
		return nil, c.abandon(again)
	case err != nil:
		return nil, err
	}
	if len(meta.Codecs) > 0 {
		d.decoder = newDecoder(d)
		defer d.decoder.keep()
	}
	if err := c.cells(d, opts.Progress); err != nil {
		return nil, err
	}
	if err := d.checkRoot(st, meta); err != nil {
		return nil, err
	}
	return st, nil
}

// want restricts the download to ranges of cells, unless there are none.
func (d *download) want(ranges [][2]uint64) {
	if ranges == nil {
		return
	}
	for i := range d.got {
		d.got[i] = true
	}
	d.missing = 0
	for _, r := range ranges {
		for i := r[0]; i < min(r[0]+r[1], uint64(len(d.got))); i++ {
			d.got[i] = false
			d.missing++
		}
	}
}

// download is a Get between META and DONE.
type download struct {
	sink    Sink
	base    Sink                  // the caller's: sink, or what it wraps
	only    [][2]uint64           // the cells that are wanted; nil: all
	refuse  func(why error) error // ends the transfer and tells the other side
	id      wire.ID               // of what comes
	grid    array.Grid
	size    int
	item    []byte // an element of the fill value
	got     []bool
	missing int
	leaves  [][32]byte
	hashing arrived                         // of leaves, those that are being made
	decoder *decoder                        // nil with codec none
	total   int64                           // raw bytes of the cells that are wanted
	stored  int64                           // bytes of payloads that came
	hurt    map[int]bool                    // cells that came damaged, and not yet again
	damages map[int]int                     // how often each
	ordered bool                            // the sink is an inOrderSink
	pieces  bool                            // what is missing was in too many pieces to ask for: all of it comes
	queue   []int                           // of hurt, cells that were not asked for yet
	ask     func(cell int, why error) error // asks for a cell again, or returns why; nil: all at once, behind DONE
}

// begin prepares for the cells that META announces. refuse is for what ends the GET at its next boundary.
func (d *download) begin(st *Stat, meta *array.Meta) (refuse, err error) {
	if d.got != nil && d.id == st.ID {
		return nil, nil
	}
	if d.got != nil {
		return wire.NewFailure(wire.CodeTemporary, "the array was replaced while it was read"), nil
	}
	d.id = st.ID
	if d.base == nil {
		d.base = d.sink
	}
	d.sink = d.base
	if d.grid, err = meta.Grid(); err != nil {
		return nil, err
	}
	if d.size, err = meta.CellBytes(); err != nil {
		return nil, err
	}
	if d.size > wire.MaxCell || st.Cells != d.grid.Len() {
		return nil, wire.Failf(wire.CodeProtocol, "META: %d cells of %d bytes for a grid of %d", st.Cells, d.size, d.grid.Len())
	}
	if d.item, err = meta.FillBytes(); err != nil {
		return nil, err
	}
	_, d.ordered = d.sink.(inOrderSink)
	if packing := st.DType.Packing(); !packing.Identity() {
		d.sink = &packedSink{Sink: d.sink, packing: packing}
	}
	if err := d.sink.Begin(st, d.grid); err != nil {
		return source{err}, nil
	}
	d.got, d.missing, d.leaves = make([]bool, d.grid.Len()), d.grid.Len(), nil
	if st.Digest == SHA256 && d.only == nil {
		d.leaves = make([][32]byte, d.grid.Len())
	}
	d.want(d.only)
	d.total = int64(d.missing) * int64(d.size)
	d.takeUp()
	return nil, nil
}

// wanted returns the cells to ask for: nil, which stands for all, at first; what is missing afterwards.
func (d *download) wanted() [][2]uint64 {
	if d.got == nil {
		return d.only
	}
	list := [][2]uint64{}
	for i, got := range d.got {
		switch n := len(list); {
		case got:
		case n > 0 && list[n-1][0]+list[n-1][1] == uint64(i):
			list[n-1][1]++
		case n == wire.RangesSent:
			d.got, d.pieces = nil, true // from the beginning
			return d.only
		default:
			list = append(list, [2]uint64{uint64(i), 1})
		}
	}
	return list
}

func (c *Client) cells(d *download, progress func(done, total int64)) error {
	defer d.hashing.wait()
	c.expect(d.size)
	for {
		h, b, err := c.next()
		switch {
		case err != nil:
			return err
		case h.Kind == wire.Done:
			if d.decoder != nil {
				if err := d.decoder.drain(); err != nil {
					return boundary{err}
				}
			}
			if d.missing > len(d.hurt) {
				return wire.Failf(wire.CodeProtocol, "DONE with %d of %d cells missing", d.missing, d.grid.Len())
			}
			return nil
		case h.Kind == wire.Credit || !h.Kind.Known():
			continue
		case h.Kind == wire.Fill:
			err = c.filled(d, h)
		case h.Kind == wire.Alias:
			err = c.repeated(d, h, b)
		case h.Kind == wire.Chunk:
			err = c.cell(d, h)
		default:
			err = wire.Failf(wire.CodeProtocol, "%v among the cells of a GET", h.Kind)
		}
		if err != nil {
			return err
		}
		if progress != nil {
			progress(d.total-int64(d.missing)*int64(d.size), d.total)
		}
	}
}

// filled gives the sink cells of the fill value.
func (c *Client) filled(d *download, h wire.Header) error {
	for i := int(h.Index); i < int(h.Index)+int(h.Raw); i++ {
		if i >= len(d.got) || d.got[i] {
			return wire.Failf(wire.CodeProtocol, "cell %d came twice or was not asked for", i)
		}
		d.got[i] = true
		d.missing--
		place := d.sink.Place(i)
		memory := place
		if memory == nil {
			memory = c.scratch(d.size)
		}
		d.grid.Fill(memory, i, d.item)
		if d.leaves != nil {
			d.leaves[i] = sha256.Sum256(memory)
		}
		if place != nil {
			memory = nil
		}
		if err := d.sink.Cell(i, memory); err != nil {
			return c.abandon(err)
		}
	}
	return nil
}

// cell reads the payload of a CHUNK to its place.
func (c *Client) cell(d *download, h wire.Header) error {
	low, high := d.size, d.size
	if d.decoder != nil {
		low, high = wire.MinBlosc, d.size+wire.MinBlosc
	}
	if h.Index >= uint64(d.grid.Len()) || int(h.Raw) != d.size || int(h.Length) < low || int(h.Length) > high {
		return wire.Failf(wire.CodeProtocol, "CHUNK of cell %d with %d bytes, %d of them raw; there are %d cells of %d", h.Index, h.Length, h.Raw, d.grid.Len(), d.size)
	}
	i := int(h.Index)
	if d.got[i] {
		return wire.Failf(wire.CodeProtocol, "cell %d came twice or was not asked for", i)
	}
	if d.decoder != nil {
		return c.compressed(d, h)
	}
	place := d.sink.Place(i)
	memory := place
	if memory == nil {
		memory = c.scratch(d.size)
	}
	aborted, err := c.payload(d, h, memory)
	if err != nil || aborted || d.hurt[i] {
		return err
	}
	d.came(i, len(memory))
	if d.leaves != nil {
		d.leafOf(i, memory, place != nil)
	}
	if place != nil {
		memory = nil
	}
	if err := d.sink.Cell(i, memory); err != nil {
		return d.refuse(source{err})
	}
	return nil
}

// payload reads the payload of a CHUNK. When it came damaged the cell is among d.hurt.
func (c *Client) payload(d *download, h wire.Header, memory []byte) (aborted bool, err error) {
	delete(d.hurt, int(h.Index))
	_, aborted, err = c.body(h, memory)
	if err != nil && wire.CodeOf(err) == wire.CodeIntegrity {
		err = d.damage(int(h.Index), fmt.Errorf("cell %d is not what was stored: %w", h.Index, err))
		if err != nil {
			return aborted, d.refuse(err)
		}
	}
	if err == nil && d.ask != nil {
		err = d.askQueued(nil)
	}
	return aborted, err // an ERROR follows what was aborted
}

// abandon ends a GET that is of no use any more because of why, and leaves the connection usable when the server plays along.
func (c *Client) abandon(why error) error {
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Cancel, Flags: wire.Critical, Stream: c.stream}, nil)
	if c.flush() != nil {
		return why
	}
	for {
		h, _, err := c.next()
		if err == nil && h.Kind == wire.Chunk {
			_, _, err = c.body(h, c.scratch(int(h.Length)))
			if wire.CodeOf(err) == wire.CodeIntegrity {
				err = nil
			}
		}
		if _, ok := errors.AsType[boundary](err); ok || err == nil && h.Kind == wire.Done {
			return boundary{why}
		}
		if err != nil {
			return why
		}
	}
}

func readMeta(b []byte) (*Stat, *array.Meta, error) {
	var m wire.MetaMessage
	if err := wire.Decode(b, &m); err != nil {
		return nil, nil, err
	}
	if err := m.Check(); err != nil {
		return nil, nil, err
	}
	d, err := wire.Describe(m.Array, m.NumPy)
	if err != nil {
		return nil, nil, err
	}
	z := &d.Array
	order := z.Meta.Order
	if order == nil {
		order = array.COrder(len(z.Meta.Shape))
	}
	st := &Stat{
		Name: m.Name, ID: m.ID, DType: d.DType, Stored: z.Meta.DType, Shape: z.Meta.Shape, Order: order, Chunks: z.Meta.Cell,
		Codec: m.Codec, CodecWhy: m.CodecWhy, Validated: validated(m.Validated), Bytes: m.Bytes, StoredBytes: m.StoredBytes, Cells: m.Cells, Digest: m.Digest.Kind,
		Attributes: []byte(m.Attributes), DimNames: z.Meta.DimNames, Durability: m.Durability, Created: m.Created,
	}
	if m.Digest.Root != nil {
		st.Root = m.Digest.Root.String()
	}
	return st, &z.Meta, nil
}
