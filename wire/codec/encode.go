package codec

import (
	"fmt"
	"slices"
	"sync"
)

// Encoder encodes chunks and keeps tables and scratch memory from one to the
// next. The zero value is ready. One goroutine at a time may use it.
type Encoder struct {
	filtered []byte // shuffled block
	planes   []byte // byte planes on the way to a bit shuffle
	lz4      lz4Encoder
	zlib     zlibEncoder
	zstd     zstdEncoder
}

var encoders = sync.Pool{New: func() any { return new(Encoder) }}

// AppendEncode appends the encoded src to dst and returns the longer slice.
// With the zero Params these are the bytes of src; else a container of at most
// MaxEncodedLen(len(src)) bytes, which holds a plain copy when compressing
// gains nothing. src must not overlap the room behind dst. Any goroutine may
// call it; it borrows an Encoder from a pool. The error wraps [ErrParams].
func AppendEncode(dst, src []byte, p Params) ([]byte, error) {
	e := encoders.Get().(*Encoder)
	defer encoders.Put(e)
	return e.AppendEncode(dst, src, p)
}

// AppendEncode is the function of the same name with e's own memory.
func (e *Encoder) AppendEncode(dst, src []byte, p Params) ([]byte, error) {
	if err := p.Check(); err != nil {
		return dst, err
	}
	if p.Name == None {
		return append(dst, src...), nil
	}
	if len(src) > MaxChunkLen {
		return dst, fmt.Errorf("codec: encode: %w: chunk of %d bytes is over the limit of %d; use smaller chunks", ErrParams, len(src), MaxChunkLen)
	}
	p = p.Settled()
	start := len(dst)
	dst = slices.Grow(dst, MaxEncodedLen(len(src)))
	out := dst[start : start+MaxEncodedLen(len(src))]
	in := Info{Name: p.Name, Shuffle: p.Shuffle, TypeSize: p.TypeSize, Len: len(src), BlockSize: blockSize(p, len(src))}
	in.noSplit = !splits(p.Name, p.TypeSize, in.BlockSize)
	if p.Level > 0 && len(src) >= minStreamLen {
		in.Encoded = e.blocks(out, src, in, p.Level)
	}
	if in.Encoded == 0 {
		in.Copied = true
		in.Encoded = HeaderLen + copy(out[HeaderLen:], src)
	}
	in.putHeader(out)
	return dst[:start+in.Encoded], nil
}

// blocks writes the table and the blocks behind the header's place in out and
// returns the size of the container, or 0 if it would not fit.
func (e *Encoder) blocks(out, src []byte, in Info, level int) int {
	n := in.blocks()
	at := HeaderLen + 4*n
	if at > len(out) {
		return 0
	}
	for i := range n {
		putLE32(out[HeaderLen+4*i:], at)
		block := src[i*in.BlockSize:][:in.blockLen(i)]
		if at = e.block(out, at, block, in, level); at == 0 {
			return 0
		}
	}
	return at
}

// block writes the streams of one block at out[at:] and returns the offset
// behind them, or 0 if they do not fit.
func (e *Encoder) block(out []byte, at int, block []byte, in Info, level int) int {
	block = e.filter(block, in)
	streams := in.streams(len(block))
	size := len(block) / streams
	for j := range streams {
		stream := block[j*size : (j+1)*size]
		room := min(size, len(out)-at-4)
		if room <= 0 {
			return 0
		}
		body := out[at+4 : at+4+room : at+4+room]
		n := e.compress(body, stream, in, level)
		if n == 0 || n == size {
			if room < size {
				return 0
			}
			n = copy(body, stream)
		}
		putLE32(out[at:], n)
		at += 4 + n
	}
	return at
}

// filter returns the shuffled block, in memory of e unless there is nothing to do.
func (e *Encoder) filter(block []byte, in Info) []byte {
	switch {
	case in.Shuffle == ShuffleByte && in.TypeSize > 1:
		e.filtered = slices.Grow(e.filtered[:0], len(block))[:len(block)]
		shuffle(e.filtered, block, in.TypeSize)
	case in.Shuffle == ShuffleBit && len(block) >= in.TypeSize:
		e.filtered = slices.Grow(e.filtered[:0], len(block))[:len(block)]
		e.planes = slices.Grow(e.planes[:0], len(block))[:len(block)]
		bitShuffle(e.filtered, block, e.planes, in.TypeSize)
	default:
		return block
	}
	return e.filtered
}

// compress writes the stream of src into dst and returns its size, 0 if it
// does not fit.
func (e *Encoder) compress(dst, src []byte, in Info, level int) int {
	switch in.Name {
	case LZ4:
		return e.lz4.compress(dst, src, 10-level)
	case Zlib:
		return e.zlib.compress(dst, src, level)
	default:
		planes := 1
		if in.Shuffle != ShuffleNone {
			planes = in.TypeSize
		}
		return e.zstd.compress(dst, src, level, planes)
	}
}
