package client

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"time"

	"ndferry/array"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// Defaults of the codec options, which spec/DEFAULTS.txt pins for every language.
const (
	DefaultCodec     = "auto"
	DefaultShuffle   = "auto"
	DefaultLevel     = codec.DefaultLevel
	DefaultZlibLevel = codec.DefaultZlibLevel
	MinLevel         = codec.MinLevel
	MaxLevel         = codec.MaxLevel
)

// assumedLink is what a connection to another machine carries until it was measured: 1 Gbit/s, in bytes a second.
const assumedLink = 125e6

// measuredLink is how many bytes a Put must have sent to tell the rate of the connection.
const measuredLink = 8 << 20

// Sampler is a Source that can be looked at anywhere before its first cell.
type Sampler interface {
	// Sample fills dst with the bytes of the elements from offset on, in memory order. Both are whole elements.
	Sample(dst []byte, offset int64) error
}

// Sample implements Sampler.
func (a *Array) Sample(dst []byte, offset int64) error {
	copy(dst, a.Data[offset:])
	return nil
}

// Sample implements Sampler.
func (n *NPYFile) Sample(dst []byte, offset int64) error {
	return readFullAt(n.file, dst, n.header.DataOffset+offset)
}

// codecParams reads the options and checks them. The name may still be codec.Auto.
func (o *PutOptions) codecParams(itemSize int) (codec.Params, error) {
	name, shuffle := codec.Auto, codec.ShuffleAuto
	var err error
	if o.Codec != "" {
		if name, err = codec.ParseName(o.Codec); err != nil {
			return codec.Params{}, err
		}
	}
	if o.Shuffle != "" {
		if shuffle, err = codec.ParseShuffle(o.Shuffle); err != nil {
			return codec.Params{}, err
		}
	}
	p := codec.Default(name, itemSize)
	if p.Shuffle = shuffle; o.Level != nil {
		if p.Level = *o.Level; p.Level < MinLevel || p.Level > MaxLevel {
			return codec.Params{}, fmt.Errorf("level %d is not in %d..%d", p.Level, MinLevel, MaxLevel)
		}
	}
	if o.LinkRate < 0 {
		return codec.Params{}, fmt.Errorf("link rate %v is negative", o.LinkRate)
	}
	return p, nil
}

// CheckCodec refuses an unknown codec, level, shuffle, link rate or digest, as Put does before anything is sent. Errors say what is
// known.
func (o *PutOptions) CheckCodec() error {
	if err := o.checkDigest(); err != nil {
		return err
	}
	_, err := o.codecParams(1)
	return err
}

func (o *PutOptions) checkDigest() error {
	if o.Digest != "" && o.Digest != CRC32C && o.Digest != SHA256 {
		return fmt.Errorf("digest %q is not known; there are %s and %s", o.Digest, CRC32C, SHA256)
	}
	return nil
}

// settle decides what auto means for this array on this connection, and writes the codec into the PUT.
func (c *Client) settle(u *upload) error {
	speaks := slices.Contains(c.peer.Codecs, wire.CodecBlosc)
	u.stable = u.params.Name == codec.None || u.params.Name == codec.Auto && u.opts.LinkRate == 0 && near(c.nc)
	switch {
	case u.params.Name == codec.Auto && u.fill != nil:
		u.params, u.msg.CodecWhy = codec.Params{}, "all elements are the same, and none is sent"
	case u.params.Name == codec.Auto && !speaks:
		u.params, u.msg.CodecWhy = codec.Params{}, "the server decodes no codec"
	case u.params.Name == codec.Auto:
		d, err := c.decide(u)
		if err != nil {
			return boundary{fmt.Errorf("sample the array: %w", err)}
		}
		u.msg.CodecWhy = d.Why
		if u.opts.Level != nil && d.Params.Name != codec.None {
			d.Params.Level = *u.opts.Level
		}
		if u.opts.Shuffle != "" && u.opts.Shuffle != DefaultShuffle && d.Params.Name != codec.None {
			d.Params.Shuffle, _ = codec.ParseShuffle(u.opts.Shuffle)
		}
		u.params = d.Params
	case u.params.Name != codec.None && !speaks:
		return boundary{wire.Failf(wire.CodeUnsupported, "the server does not decode compressed chunks; put with codec none")}
	}
	if u.params.Name == codec.None {
		return nil
	}
	s := u.params.Settled()
	u.meta.Codecs = []array.Codec{array.Blosc{
		CName: s.Name.String(), CLevel: s.Level, TypeSize: s.TypeSize, BlockSize: s.BlockSize,
		Shuffle: [...]string{codec.ShuffleNone: "noshuffle", codec.ShuffleByte: "shuffle", codec.ShuffleBit: "bitshuffle"}[s.Shuffle],
	}.Codec()}
	return u.describe()
}

// decide asks the codec package, with the rate that was given, measured or assumed, in this order. With Resume none is measured.
func (c *Client) decide(u *upload) (codec.Decision, error) {
	rates := codec.Rates{Link: u.opts.LinkRate, Workers: runtime.GOMAXPROCS(0)}
	if rates.Link == 0 {
		if near(c.nc) {
			return codec.Decision{Why: "the server is on this machine, where no codec is faster than copying"}, nil
		}
		if rates.Link = c.rate; rates.Link == 0 || u.opts.Resume { // what is taken up on another connection must be decided alike
			rates.Link = assumedLink
		}
	}
	dtype, shape, _ := u.src.Describe()
	size, err := shape.Bytes(dtype.ItemSize())
	if err != nil {
		return codec.Decision{}, err
	}
	if s := samplerOf(u.src); s != nil {
		return codec.Decide(int64(size), dtype.ItemSize(), rates, s.Sample)
	}
	if u.grid.Len() == 0 {
		return codec.DecideBytes(nil, dtype.ItemSize(), rates), nil
	}
	first, err := u.src.Cell(u.grid, 0, make([]byte, u.size))
	if err != nil {
		return codec.Decision{}, err
	}
	u.first = slices.Clone(first)
	return codec.DecideBytes(u.first, dtype.ItemSize(), rates), nil
}

// near tells that the other end is on this machine.
func near(nc net.Conn) bool {
	switch a := nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case nil:
		return false
	default:
		return a.Network() == "unix" || a.Network() == "pipe"
	}
}

// measure takes in how long sending n bytes took.
func (c *Client) measure(n int64, took time.Duration) {
	if n >= measuredLink && took > 0 {
		c.rate = float64(n) / took.Seconds()
	}
}

// wireCell is a cell on its way out: its encoded bytes and its leaf.
type wireCell struct {
	data   []byte
	leaf   [32]byte
	hashed bool // leaf is that of the cell
	err    error
}

// cells yields the cells of an upload in order. Cells that are to be encoded are so by up to GOMAXPROCS goroutines, ahead of the one
// that is being sent; the source is read by the caller's.
type cells struct {
	u     *upload
	plain []byte  // memory of one cell, when nothing is encoded
	hash  *hasher // when nothing is encoded, and the leaves of large cells are to be made
	ring  []*slot // cell i is in ring[i % len]
	ahead int     // next cell to read
}

// slot is the memory of one cell that is being encoded.
type slot struct {
	raw  []byte
	out  []byte
	cell wireCell
	done chan struct{} // capacity 1
	busy bool
}

// newCells begins. scratch is memory of one cell.
func newCells(u *upload, scratch []byte) *cells {
	s := &cells{u: u, plain: scratch}
	if u.params.Name == codec.None {
		if u.leaves != nil && u.size >= besides {
			s.hash = newHasher(u)
		}
		return s
	}
	s.ring = make([]*slot, min(runtime.GOMAXPROCS(0)+1, max(u.grid.Len(), 1)))
	for i := range s.ring {
		s.ring[i] = &slot{done: make(chan struct{}, 1)}
	}
	return s
}

// next returns cell i; each must be asked for once, in order. Its data stay as they are until the next call.
func (s *cells) next(i int) wireCell {
	if s.ring == nil {
		if s.u.has(i) {
			return wireCell{}
		}
		if s.hash != nil {
			data, err := s.hash.read(i)
			return wireCell{data: data, err: err}
		}
		data, err := s.u.read(i, s.plain)
		w := wireCell{data: data, err: err}
		if err == nil && s.u.unhashed(i) {
			w.leaf, w.hashed = sum(data), true
		}
		return w
	}
	for ; s.ahead < min(i+len(s.ring), s.u.grid.Len()); s.ahead++ {
		if s.u.stands(s.ahead) {
			continue
		}
		s.begin(s.ring[s.ahead%len(s.ring)], s.ahead)
	}
	sl := s.ring[i%len(s.ring)]
	<-sl.done
	sl.busy = false
	return sl.cell
}

func (s *cells) begin(sl *slot, i int) {
	sl.busy, sl.cell = true, wireCell{}
	if s.u.has(i) {
		sl.done <- struct{}{}
		return
	}
	if sl.raw == nil {
		sl.raw = make([]byte, s.u.size)
	}
	data, err := s.u.read(i, sl.raw)
	if err != nil {
		sl.cell.err = err
		sl.done <- struct{}{}
		return
	}
	if _, stable := s.u.src.(*Array); !stable && &data[0] != &sl.raw[0] {
		copy(sl.raw, data)
		data = sl.raw
	}
	hash, send := s.u.unhashed(i), !s.u.accepted(i)
	go func() {
		defer func() { sl.done <- struct{}{} }()
		if hash {
			sl.cell.leaf, sl.cell.hashed = sum(data), true
		}
		if !send {
			return
		}
		sl.out, sl.cell.err = codec.AppendEncode(sl.out[:0], data, s.u.params)
		sl.cell.data = sl.out
	}()
}

// stop waits until nothing uses the source's memory any more, and all leaves are noted.
func (s *cells) stop() {
	if s.hash != nil {
		s.hash.drain()
	}
	for _, sl := range s.ring {
		if sl.busy {
			<-sl.done
			sl.busy = false
		}
	}
}

// read returns the raw bytes of a cell.
func (u *upload) read(i int, buf []byte) ([]byte, error) {
	if i == 0 && u.first != nil {
		return u.first, nil
	}
	data, err := u.src.Cell(u.grid, i, buf)
	if err == nil && len(data) != u.size {
		err = fmt.Errorf("%d bytes, a cell has %d: %w", len(data), u.size, io.ErrShortBuffer)
	}
	return data, err
}
