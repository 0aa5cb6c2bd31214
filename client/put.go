package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// Digests.
const (
	CRC32C = "crc32c"
	SHA256 = "sha256"

	// Unchecked is what Stat and Entry say of an array that another program wrote into the store: nothing was recorded to check it with.
	Unchecked = "none"
)

// PutOptions say how an array is stored. The zero value works.
type PutOptions struct {
	ID         wire.ID      // of the transfer; default a random one. Asking again with the same id is safe and stores once: the receipt is that of the commit, also when the array was replaced or deleted since
	Cell       array.Shape  // shape of a chunk; default by array.DefaultCell
	ChunkBytes int          // target size of a chunk when Cell is nil, raw bytes; default DefaultChunk
	Digest     string       // CRC32C (default) or SHA256
	Codec      string       // auto (default: by a sample of the array and the rate of the connection), none, lz4, zlib or zstd
	Level      *int         // 0 (plain copies in containers) to 9; default DefaultLevel, with zlib DefaultZlibLevel
	Shuffle    string       // auto (default: byte for elements of 2 to 255 bytes), none, byte or bit
	LinkRate   float64      // bytes a second of the connection, for auto; default what was measured, or 1 Gbit/s, or none on this machine
	Attributes []byte       // the text of a JSON object
	Dims       []string     // names of the axes, "" for none; default NAME_0, …, of the last part of the array's name
	IfAbsent   bool         // fail with ErrConflict when the name is taken
	Relaxed    bool         // do not wait for the disk: a crash of the server's system or power may lose the array
	Resume     bool         // go on with what the server has of this ID, and let it keep what it gets when this fails
	Retries    int          // attempts after the first, when the connection breaks or the server says that it may work later
	Streams    int          // connections to use, 1 to MaxStreams, when the server takes them; default 1. More than 1 implies Resume for as long as the call lasts
	Leaves     Leaves       // with SHA256: what is known of chunks and need not be hashed again; default nothing
	Confirm    func() error // called before the last message of each attempt, when all chunks are sent: an error ends the Put, and the server forgets it
	Progress   func(done, total int64)
}

// Leaves remembers the leaves (spec/WIRE.md §5.7) of a source between Puts with the same ID, also of different processes. It must forget
// them when the source changes. Its methods are called from several goroutines.
type Leaves interface {
	Leaf(cell int) (leaf [32]byte, ok bool)
	Keep(cell int, leaf [32]byte)
}

// DefaultChunk is the target size of a chunk in raw bytes; a chunk has at most MaxChunk.
const (
	DefaultChunk = 4 << 20
	MinChunk     = 64 << 10
	MaxChunk     = wire.MaxCell
)

// Receipt says what was committed.
type Receipt struct {
	Name        string
	ID          wire.ID
	Bytes       int64 // raw
	StoredBytes int64
	Cells       int
	Codec       string // none, or the compressor of the chunks
	CodecWhy    string // why auto chose it; "" when it was asked for
	Validated   string // "full": every chunk was decoded before the commit; "header": compressed chunks were not
	Digest      string
	Root        string // hex, with digest sha256
	Durability  string // "durable", "relaxed" or "memory"
	Created     time.Time
}

// Put stores an array under a name, replacing what is there, and returns when it is committed as spec/STORE.md says.
func (c *Client) Put(ctx context.Context, name string, a Array, opts PutOptions) (*Receipt, error) {
	if err := a.check(); err != nil {
		return nil, invalid("put", name, err)
	}
	if formal(&a, &opts) {
		if r, done, err := c.putAlike(ctx, name, &a, &opts); done {
			return r, err
		}
	}
	return c.PutFrom(ctx, name, &a, opts)
}

// PutFrom is Put with a Source.
func (c *Client) PutFrom(ctx context.Context, name string, src Source, opts PutOptions) (*Receipt, error) {
	p, err := newUpload(name, src, opts)
	if err != nil {
		return nil, invalid("put", name, err)
	}
	var r *Receipt
	err = c.retry(ctx, opts.Retries, func() (moved bool, err error) {
		before := p.durable
		err = c.call(ctx, "put", name, func() (err error) {
			r, err = c.put(ctx, p)
			return err
		})
		return p.durable > before, err
	})
	if err == nil {
		c.keepForm(p)
	}
	return r, err
}

// invalid is an error that was found before anything was sent.
func invalid(op, name string, err error) error {
	return &Error{Op: op, Name: name, Code: wire.CodeInvalid, Cell: -1, Err: err}
}

// upload is a Put that has been checked.
type upload struct {
	msg     wire.PutMessage
	meta    array.Meta
	grid    array.Grid
	size    int // raw bytes of a cell
	src     Source
	opts    PutOptions
	params  codec.Params // Auto until settle
	first   []byte       // cell 0, when it had to be read to settle
	leaves  [][32]byte
	hashed  []bool      // which leaves are known
	done    []bool      // cells that the server has
	durable int         // how many of them it had when it was asked last, or said so since
	planned bool        // sparse was called
	stable  bool        // the codec was none for any array that is put so
	fill    []byte      // the element, as it is stored, of which a constant array is made; else nil
	repeats []repeat    // cells that are not sent but said to be like others
	again   []int       // cells that the other side asked for again
	damages map[int]int // how often, in this attempt

	regrouped int // how often connections besides the first broke
}

func newUpload(name string, src Source, opts PutOptions) (*upload, error) {
	if err := array.CheckName(name); err != nil {
		return nil, err
	}
	dtype, shape, order := src.Describe()
	target := opts.ChunkBytes
	if target == 0 {
		target = DefaultChunk
	}
	if target < 1 || target > MaxChunk {
		return nil, fmt.Errorf("chunks of %d bytes, 1 to %d are allowed", target, MaxChunk)
	}
	stored := dtype.Stored()
	cell := opts.Cell
	if cell == nil {
		if err := order.Check(len(shape)); err != nil {
			return nil, err
		}
		cell = array.DefaultCell(shape, order, stored.ItemSize(), target)
	}
	if packing := dtype.Packing(); !packing.Identity() {
		src = &packedSource{Source: src, packing: packing}
	}
	if opts.Dims != nil && len(opts.Dims) != len(shape) {
		return nil, fmt.Errorf("%d names of axes, %q, for an array of %d", len(opts.Dims), opts.Dims, len(shape))
	}
	u := &upload{src: src, opts: opts}
	u.meta = array.Meta{Shape: shape, DType: stored, Cell: cell, Order: order, DimNames: opts.dimNames(name, len(shape))}
	text, err := u.meta.AppendWire(make([]byte, 0, 512))
	if err != nil {
		return nil, err
	}
	if err := opts.checkDigest(); err != nil {
		return nil, err
	}
	if err := u.cut(); err != nil {
		return nil, err
	}
	if u.params, err = opts.codecParams(dtype.ItemSize()); err != nil {
		return nil, err
	}
	if opts.Attributes != nil {
		if err := array.CheckAttributes(opts.Attributes); err != nil {
			return nil, err
		}
	}
	if opts.Streams < 0 || opts.Streams > MaxStreams {
		return nil, fmt.Errorf("%d streams, 1 to %d are allowed", opts.Streams, MaxStreams)
	}
	if opts.ID == (wire.ID{}) {
		rand.Read(opts.ID[:])
	}
	u.msg = wire.PutMessage{
		Name: name, ID: opts.ID, Array: jsontext.Value(text), NumPy: dtype.AppendNumPy(nil),
		Digest: opts.Digest, IfAbsent: opts.IfAbsent, Resume: opts.Resume || opts.Retries > 0 || opts.Streams > 1 && u.grid.Len() > 1,
	}
	if opts.Relaxed {
		u.msg.Durability = "relaxed"
	}
	if opts.Attributes != nil {
		text := string(opts.Attributes)
		u.msg.Attributes = &text
	}
	return u, nil
}

// dimNames is what the user calls the axes.
func (o *PutOptions) dimNames(name string, axes int) []array.DimName {
	if o.Dims == nil {
		return array.DefaultDimNames(name, axes)
	}
	names := make([]array.DimName, len(o.Dims))
	for i, dim := range o.Dims {
		names[i] = array.DimName{Name: dim, Null: dim == ""}
	}
	return names
}

// cut makes what follows from the grid of cells.
func (u *upload) cut() (err error) {
	if u.grid, err = u.meta.Grid(); err != nil {
		return err
	}
	if u.size, err = u.meta.CellBytes(); err != nil {
		return err
	}
	if u.size > wire.MaxCell {
		return fmt.Errorf("chunks of %v have %d bytes each, at most %d are allowed", u.meta.Cell, u.size, wire.MaxCell)
	}
	if p, ok := u.src.(*packedSource); ok {
		p.loose = nil
	}
	if u.opts.Digest == SHA256 {
		u.leaves, u.hashed = make([][32]byte, u.grid.Len()), make([]bool, u.grid.Len())
		for i := 0; u.opts.Leaves != nil && i < len(u.leaves); i++ {
			u.leaves[i], u.hashed[i] = u.opts.Leaves.Leaf(i)
		}
	}
	return nil
}

func (c *Client) put(ctx context.Context, u *upload) (*Receipt, error) {
	u.again, u.damages = nil, nil
	if err := c.sparse(u); err != nil {
		return nil, err
	}
	if err := c.settle(u); err != nil {
		return nil, err
	}
	c.request(wire.Put, u.msg)
	if u.msg.Resume {
		if r, err := c.accepted(u); r != nil || err != nil {
			return r, err
		}
	}
	if n := c.streams(u); n > 1 {
		if others := c.further(ctx, n-1); len(others) > 0 {
			return c.putShared(ctx, u, others)
		}
	}
	total := int64(u.grid.Len()) * int64(u.size)
	cells := newCells(u, c.scratch(u.size))
	defer cells.stop()
	begin, sent := time.Now(), int64(0)
	for i := range u.grid.Len() {
		if u.stands(i) {
			continue
		}
		cell := cells.next(i)
		if cell.err != nil {
			return nil, c.giveUp(source{fmt.Errorf("read cell %d: %w", i, cell.err)}, u.opts.Resume)
		}
		if cell.hashed {
			u.noteLeaf(i, cell.leaf)
		}
		if u.accepted(i) {
			continue
		}
		if done, r, err := c.awaitCredit(u); done || err != nil {
			return r, err
		}
		h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: c.stream, Index: uint64(i), Raw: uint32(u.size), Length: uint32(len(cell.data))}
		sent += int64(len(cell.data))
		if err := c.sendCell(h, cell.data); err != nil {
			return nil, err
		}
		if u.opts.Progress != nil {
			u.opts.Progress(int64(i+1)*int64(u.size), total)
		}
	}
	c.measure(sent, time.Since(begin))
	if cells.hash != nil { // the other side can check the last cell meanwhile
		if err := c.flush(); err != nil {
			return nil, err
		}
		cells.stop()
	}
	if err := c.sendRepeats(u); err != nil {
		return nil, err
	}
	return c.finish(u)
}

// awaitCredit takes the credit of one cell, and waits until there is enough.
func (c *Client) awaitCredit(u *upload) (done bool, r *Receipt, err error) {
	cost := wire.Cost(uint32(u.size))
	for c.credit < cost {
		if err := c.flush(); err != nil {
			return false, nil, err
		}
		if done, r, err := c.early(u); done || err != nil {
			return done, r, err
		}
	}
	c.credit -= cost
	return false, nil, nil
}

// early reads one frame while cells are still to be sent: credit, a cell that is to be sent again, or the end.
func (c *Client) early(u *upload) (done bool, r *Receipt, err error) {
	h, b, err := c.next()
	if h.Kind == wire.Ack && h.Raw == wire.AckDurable && err == nil {
		u.durable = max(u.durable, int(min(h.Index, uint64(u.grid.Len()))))
	}
	if err == nil && h.Kind == wire.Resend {
		err = u.wantAgain(h)
	}
	if err != nil || h.Kind != wire.Receipt {
		return false, nil, err
	}
	r, err = c.receipt(u.msg.Name, b) // this id was committed before
	return true, r, err
}

// giveUp cancels a Put whose source failed with why, and leaves the connection usable when the server answers.
// What the server has of it stays there when keep is set.
func (c *Client) giveUp(why error, keep bool) error {
	forget := uint32(1)
	if keep {
		forget = 0
	}
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Cancel, Flags: wire.Critical, Stream: c.stream, Raw: forget}, nil)
	c.ended = true
	if c.flush() != nil {
		return why
	}
	for {
		_, _, err := c.next()
		if b, ok := errors.AsType[boundary](err); ok {
			b.err = why
			return b
		}
		if err != nil {
			return why
		}
	}
}

func (c *Client) scratch(size int) []byte {
	if cap(c.buf) < size {
		c.buf = make([]byte, size)
	}
	return c.buf[:size]
}

// sendPiece is how many bytes are written at once. They must fit the second-level cache, where the checksum finds them; with more of
// them the two sides wait for each other less often (256 MiB over loopback: 0.88 of the bare pair, with 256 KiB 0.68).
const sendPiece = 512 << 10

// sendCell sends a CHUNK. A small one joins what is in out; of a large one each piece is
// added to the checksum right after it was written: the write has brought it into the cache, in order, which the three lanes of
// the checksum would not.
func (c *Client) sendCell(h wire.Header, data []byte) error {
	if len(data) <= readAhead {
		c.out = wire.AppendFrame(c.out, h, data)
		if len(c.out) > wire.MaxControl {
			return c.flush()
		}
		return nil
	}
	c.out = wire.AppendHeader(c.out, h)
	crc := uint32(0)
	for len(data) > 0 {
		n := min(sendPiece, len(data))
		piece := data[:n]
		data = data[n:]
		var err error
		c.patience(c.nc.SetWriteDeadline)
		if len(c.out) > 0 {
			both := net.Buffers{c.out, piece}
			_, err = both.WriteTo(c.nc)
			c.out = c.out[:0]
		} else {
			_, err = c.nc.Write(piece)
		}
		if err != nil {
			return c.lastWords(err)
		}
		crc = wire.Update(crc, piece)
	}
	c.out = wire.AppendTrailer(c.out, crc, wire.Whole)
	return nil
}

// sum is a leaf.
func sum(data []byte) [32]byte { return sha256.Sum256(data) }

// validated is what a receipt that says nothing means.
func validated(how string) string {
	if how == "" {
		return "full"
	}
	return how
}

func readReceipt(b []byte) (*Receipt, error) {
	var m wire.ReceiptMessage
	if err := wire.Decode(b, &m); err != nil {
		return nil, err
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	r := &Receipt{
		Name: m.Name, ID: m.ID, Bytes: m.Bytes, StoredBytes: m.StoredBytes, Cells: m.Cells, Codec: m.Codec,
		CodecWhy: m.CodecWhy, Validated: validated(m.Validated),
		Digest: m.Digest.Kind, Durability: m.Durability, Created: m.Created,
	}
	if m.Digest.Root != nil {
		r.Root = m.Digest.Root.String()
	}
	return r, nil
}
