package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire"
)

// Arrays directly between two programs, spec/WIRE.md §11: the sender is a client that does one PUT, the receiver a server for it.
// Nothing behind the array is read, so that conn may carry other bytes before and after, and arrays in either direction. On an
// error that is an *Error, Closed tells whether conn was closed or stands at a boundary. The deadlines of conn are none afterwards.

// DefaultLimit is how large an array Receive takes when ReceiveOptions says nothing.
const DefaultLimit = 4 << 30

// directName is told to a receiver when the sender names nothing.
const directName = "array"

// What a sender may have on its way, raw bytes, and what is worth a CREDIT. A sender that is refused notices it within the window.
const (
	directWindow = 64 << 20
	directGrant  = 16 << 20
)

// Send gives an array to whoever calls Receive, or follows spec/WIRE.md §11, at the other end of conn, and returns when all of it was
// verified there. IfAbsent, Resume, Relaxed, Retries and Streams of opts have no meaning here.
func Send(ctx context.Context, conn net.Conn, a Array, opts PutOptions) (*Receipt, error) {
	if err := a.check(); err != nil {
		return nil, invalid("send", directName, err)
	}
	return SendFrom(ctx, conn, directName, &a, Config{}, opts)
}

// SendFrom is Send with a Source and a name that the receiver is told.
func SendFrom(ctx context.Context, conn net.Conn, name string, src Source, cfg Config, opts PutOptions) (*Receipt, error) {
	opts.IfAbsent, opts.Resume, opts.Relaxed, opts.Retries, opts.Streams = false, false, false, 0, 1
	u, err := newUpload(name, src, opts)
	if err != nil {
		return nil, invalid("send", name, err)
	}
	c := direct(conn, cfg)
	defer conn.SetDeadline(time.Time{})
	var r *Receipt
	err = c.call(ctx, "send", name, func() (err error) {
		if err := c.greet(wire.MaxCredit); err != nil {
			return err
		}
		r, err = c.put(ctx, u)
		switch b, ok := errors.AsType[boundary](err); {
		case !ok || c.ended:
		case c.stream == 0: // nothing was asked for, and the receiver waits for a PUT
			c.request(wire.Put, u.msg)
			return c.giveUp(b.err, false)
		default:
			c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Cancel, Flags: wire.Critical, Stream: c.stream}, nil)
			if c.flush() != nil {
				return errors.Unwrap(err)
			}
		}
		return err
	})
	return r, err
}

// ReceiveOptions say how an array is received. The zero value works.
type ReceiveOptions struct {
	Into     []byte // memory for the elements, of exactly their size; default new memory
	Limit    int64  // most bytes of an array in new memory; default DefaultLimit
	Progress func(done, total int64)
}

// Receive takes the array that the other end of conn sends with Send, and returns it with what the sender said of it, attributes too.
func Receive(ctx context.Context, conn net.Conn, opts ReceiveOptions) (*Array, *Stat, error) {
	if opts.Limit == 0 {
		opts.Limit = DefaultLimit
	}
	sink := &limitedSink{memorySink: memorySink{Array: Array{Data: opts.Into}}, limit: opts.Limit}
	st, err := ReceiveTo(ctx, conn, sink, Config{}, opts)
	if err != nil {
		return nil, nil, err
	}
	return &sink.Array, st, nil
}

// limitedSink refuses what a sender should not make us allocate.
type limitedSink struct {
	memorySink
	limit int64
}

func (l *limitedSink) Begin(st *Stat, g array.Grid) error {
	if l.Data == nil && st.Bytes > l.limit {
		return wire.Failf(wire.CodeLimit, "an array of %d bytes, this receiver takes at most %d", st.Bytes, l.limit)
	}
	return l.memorySink.Begin(st, g)
}

// ReceiveTo is Receive with a Sink. Limit and Into of opts are the sink's business.
func ReceiveTo(ctx context.Context, conn net.Conn, sink Sink, cfg Config, opts ReceiveOptions) (*Stat, error) {
	c := direct(conn, cfg)
	defer conn.SetDeadline(time.Time{})
	var st *Stat
	err := c.call(ctx, "receive", "", func() (err error) {
		st, err = c.receive(sink, opts.Progress)
		if _, ok := errors.AsType[boundary](err); err != nil && !ok && !c.ended && tellable(err) {
			c.out = wire.AppendFrame(c.out[:0], wire.Header{Kind: wire.Fail}, wire.Encode(failureOf(err)))
			c.flush()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

func direct(conn net.Conn, cfg Config) *Client {
	return &Client{cfg: cfg, nc: conn, in: &exactReader{r: conn}}
}

// tellable tells whether err is something that this side found, which the other should know.
func tellable(err error) bool {
	switch wire.CodeOf(err) {
	case wire.CodeProtocol, wire.CodeVersion, wire.CodeUnsupported, wire.CodeIntegrity, wire.CodeLimit:
		return true
	}
	return false
}

func failureOf(err error) *wire.Failure {
	if f, ok := errors.AsType[*wire.Failure](err); ok {
		return f
	}
	return wire.NewFailure(wire.CodeOf(err), err.Error())
}

// incoming is an array on its way to us.
type incoming struct {
	download
	msg         wire.PutMessage
	stat        *Stat
	meta        *array.Meta
	outstanding uint64 // credit that was used and not given back
}

func (c *Client) receive(sink Sink, progress func(done, total int64)) (*Stat, error) {
	if err := c.greet(directWindow); err != nil {
		return nil, err
	}
	h, b, err := c.heard()
	if err != nil {
		return nil, err
	}
	if h.Kind != wire.Put {
		return nil, wire.Failf(wire.CodeProtocol, "%v where a PUT belongs: is the other side receiving too?", h.Kind)
	}
	c.stream = h.Stream
	in := &incoming{}
	in.sink = sink
	in.refuse = func(why error) error { return c.refuse(in, why) }
	in.ask = c.askAgain
	defer in.hashing.wait()
	if err := in.begin(b); err != nil {
		if wire.CodeOf(err) == wire.CodeProtocol {
			return nil, err
		}
		return nil, in.refuse(err)
	}
	if len(in.meta.Codecs) > 0 {
		in.decoder = newDecoder(&in.download)
		defer in.decoder.keep()
	}
	total := in.stat.Bytes
	for {
		h, b, err := c.heard()
		switch {
		case err != nil:
			return nil, err
		case h.Stream != c.stream:
			return nil, wire.Failf(wire.CodeProtocol, "%v on stream %d", h.Kind, h.Stream)
		case h.Kind == wire.Chunk:
			if err := in.spend(h); err != nil {
				return nil, err
			}
			if err := c.cell(&in.download, h); err != nil {
				return nil, err
			}
			if progress != nil {
				progress(total-min(total, int64(in.missing)*int64(in.size)), total)
			}
			if err := c.grant(in); err != nil {
				return nil, err
			}
		case h.Kind == wire.Finish || h.Kind == wire.Cancel:
			var why error
			if in.decoder != nil && h.Kind == wire.Finish {
				why = in.decoder.drain()
			}
			switch owed := h.Kind == wire.Finish && len(in.hurt) > 0; {
			case !owed:
				return in.stat, c.answer(in, h, b, why)
			case why != nil:
				return nil, in.refuse(why)
			}
		default:
			return nil, wire.Failf(wire.CodeProtocol, "%v among the cells of a PUT", h.Kind)
		}
	}
}

// heard returns the next frame that is for an operation: a CHUNK before its payload, others with it.
func (c *Client) heard() (wire.Header, []byte, error) {
	for {
		h, err := c.header()
		if err != nil || h.Kind == wire.Chunk {
			return h, nil, err
		}
		b, err := c.control(h)
		switch {
		case err != nil:
			return h, nil, err
		case h.Kind == wire.Ping:
			c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Pong, Index: h.Index}, nil)
			if err := c.flush(); err != nil {
				return h, nil, err
			}
		case h.Kind == wire.Fail:
			c.ended = true // it needs no answer
			h.Stream = 0   // a sender's last frame is never an ERROR: nobody knows where the stream stands
			return h, nil, c.failure(h, b)
		case h.Kind == wire.Credit || h.Kind == wire.Pong || !h.Kind.Known():
		case !h.Kind.ToServer():
			return h, nil, wire.Failf(wire.CodeProtocol, "%v came to a receiver", h.Kind)
		default:
			return h, b, nil
		}
	}
}

// begin reads the PUT.
func (in *incoming) begin(b []byte) error {
	m := &in.msg
	if err := wire.Decode(b, m); err != nil {
		return err
	}
	meta, err := m.Describe()
	if err != nil {
		return err
	}
	in.meta = meta
	if in.grid, err = meta.Grid(); err != nil {
		return wire.NewFailure(wire.CodeInvalid, err.Error())
	}
	if in.size, err = meta.CellBytes(); err != nil {
		return wire.NewFailure(wire.CodeInvalid, err.Error())
	}
	n := in.grid.Len()
	bytes, err := meta.Shape.Bytes(meta.DType.ItemSize())
	switch {
	case err != nil:
		return wire.NewFailure(wire.CodeInvalid, err.Error())
	case in.size > wire.MaxCell || n > maxIncoming:
		return wire.Failf(wire.CodeLimit, "%d cells of %d bytes, at most %d of %d are taken", n, in.size, maxIncoming, wire.MaxCell)
	}
	order := meta.Order
	if order == nil {
		order = array.COrder(len(meta.Shape))
	}
	dtype, err := array.Exact(m.NumPy, meta.DType)
	if err != nil {
		return wire.NewFailure(wire.CodeInvalid, err.Error())
	}
	st := &Stat{
		Name: m.Name, ID: m.ID, DType: dtype, Stored: meta.DType, Shape: meta.Shape, Order: order, Chunks: meta.Cell, Codec: store.CodecName(meta),
		Bytes: int64(bytes), Cells: n, Digest: CRC32C, Attributes: []byte("{}"),
		DimNames: meta.DimNames, Durability: "memory",
	}
	if m.Attributes != nil {
		st.Attributes = []byte(*m.Attributes)
	}
	switch m.Digest {
	case "", CRC32C:
	case SHA256:
		st.Digest = SHA256
		in.leaves = make([][32]byte, n)
	default:
		return wire.Failf(wire.CodeInvalid, "digest %q is not known", m.Digest)
	}
	in.stat, in.got, in.missing = st, make([]bool, n), n
	_, in.ordered = in.sink.(inOrderSink)
	if packing := dtype.Packing(); !packing.Identity() {
		in.sink = &packedSink{Sink: in.sink, packing: packing}
	}
	in.sink = &paddingSink{in.sink, in.grid}
	return in.sink.Begin(st, in.grid)
}

// paddingSink refuses cells that are not zero over the edge of the array, §5.6.
type paddingSink struct {
	Sink
	grid array.Grid
}

func (p *paddingSink) Cell(i int, data []byte) error {
	if data != nil && !p.grid.PaddingIsZero(data, i) {
		return wire.Failf(wire.CodeInvalid, "cell %d: the padding over the edge of the array is not zero", i)
	}
	return p.Sink.Cell(i, data)
}

// maxIncoming bounds what a sender makes us remember of cells.
const maxIncoming = 1 << 24

func (in *incoming) spend(h wire.Header) error {
	if in.outstanding += wire.Cost(h.Raw); in.outstanding > directWindow {
		return wire.Failf(wire.CodeProtocol, "CHUNK over the credit")
	}
	return nil
}

// grant gives credit back when it is worth a frame.
func (c *Client) grant(in *incoming) error {
	if in.outstanding < directGrant {
		return nil
	}
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Credit, Index: in.outstanding}, nil)
	in.outstanding = 0
	return c.flush()
}

// answer answers the last frame of the sender: with an ERROR when there is a reason why.
func (c *Client) answer(in *incoming, h wire.Header, b []byte, why error) error {
	var f *wire.Failure
	m := wire.FinishMessage{}
	if why != nil {
		f = failureOf(why)
	}
	in.stat.StoredBytes = in.stored
	switch n := in.grid.Len(); {
	case f != nil:
	case h.Kind == wire.Cancel:
		f = wire.Failf(wire.CodeCancelled, "the sender gave up")
	case h.Index != uint64(n) || in.missing > 0:
		f = wire.Failf(wire.CodeInvalid, "FINISH says %d of %d cells, and %d are missing", h.Index, n, in.missing)
	case in.leaves != nil:
		in.hashing.wait()
		if len(b) == 0 {
			f = wire.Failf(wire.CodeInvalid, "FINISH without the root of digest sha256")
		} else if err := wire.Decode(b, &m); err != nil {
			return err
		} else if root := wire.Root(in.meta.Root(in.leaves)); root != m.Root {
			f = wire.Failf(wire.CodeIntegrity, "the root over what came is %v, the sender says %v", root, m.Root)
		} else {
			in.stat.Root = root.String()
		}
	}
	c.ended = true
	if f != nil {
		c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Fail, Stream: c.stream}, wire.Encode(f))
		if err := c.flush(); err != nil {
			return err
		}
		return boundary{f}
	}
	in.stat.Created = time.Now().UTC().Round(0)
	digest := wire.Digest{Kind: in.stat.Digest}
	if in.leaves != nil {
		digest.Root = &m.Root
	}
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Receipt, Stream: c.stream}, wire.Encode(wire.ReceiptMessage{
		Name: in.msg.Name, ID: in.msg.ID, Bytes: in.stat.Bytes, StoredBytes: in.stat.StoredBytes, Cells: in.stat.Cells,
		Codec: in.stat.Codec, Digest: digest, Durability: in.stat.Durability, Created: in.stat.Created,
	}))
	return c.flush()
}

// refuse tells the sender why its array is not taken, and throws away what still comes, up to its last frame. ERROR is our last: a
// sender that is out of credit reads it.
func (c *Client) refuse(in *incoming, why error) error {
	f := failureOf(why)
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Fail, Stream: c.stream}, wire.Encode(f))
	if err := c.flush(); err != nil {
		return why
	}
	for {
		h, _, err := c.heard()
		if err == nil && h.Kind == wire.Chunk {
			if err = in.spend(h); err == nil {
				delete(in.hurt, int(h.Index))
				_, _, err = c.body(h, c.scratch(int(h.Length)))
				if wire.CodeOf(err) == wire.CodeIntegrity {
					err = nil
				}
			}
		}
		switch {
		case err != nil:
			c.ended = true // it was told already
			return fmt.Errorf("%w; and then: %w", why, err)
		case h.Kind == wire.Finish && len(in.hurt) == 0 || h.Kind == wire.Cancel:
			return boundary{why}
		}
	}
}

// exactReader reads a header, or what is asked for, and never more.
type exactReader struct {
	r      io.Reader
	header [wire.HeaderSize]byte
	have   int // bytes of header
}

// Peek reads the next n bytes, at most a header.
func (e *exactReader) Peek(n int) ([]byte, error) {
	for e.have < n {
		got, err := e.r.Read(e.header[e.have:n])
		e.have += got
		if err != nil && e.have < n {
			return e.header[:e.have], err
		}
	}
	return e.header[:n], nil
}

// Discard forgets n bytes that Peek returned.
func (e *exactReader) Discard(n int) (int, error) {
	e.have = copy(e.header[:], e.header[n:e.have])
	return n, nil
}

// Buffered is how many bytes Peek has read and nobody took.
func (e *exactReader) Buffered() int { return e.have }

// Read implements io.Reader.
func (e *exactReader) Read(p []byte) (int, error) {
	if e.have > 0 {
		n := copy(p, e.header[:e.have])
		e.Discard(n)
		return n, nil
	}
	return e.r.Read(p)
}
