package codec

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"

	"ndferry/wire/codec/unzstd"
)

// slack is room behind a decoded stream that lets decoders copy in wide steps.
const slack = unzstd.Slack

// Decoder decodes chunks and keeps tables and scratch memory from one to the
// next. The zero value is ready. One goroutine at a time may use it.
type Decoder struct {
	filtered []byte // shuffled block, as decompressed
	planes   []byte // byte planes on the way from a bit shuffle
	zlib     zlibDecoder
	zstd     unzstd.Decoder
}

var decoders = sync.Pool{New: func() any { return new(Decoder) }}

// Decode decodes the container src into dst, whose length must be the decoded
// length that the caller expects; a container that says another, or whose
// streams decode to another, is an error. After an error the content of dst is
// undefined. Any goroutine may call it; it borrows a Decoder from a pool. The
// error wraps [ErrCorrupt] or [ErrUnsupported].
func Decode(dst, src []byte) error {
	d := decoders.Get().(*Decoder)
	defer decoders.Put(d)
	return d.Decode(dst, src)
}

// Decode is the function of the same name with d's own memory.
func (d *Decoder) Decode(dst, src []byte) error {
	in, err := Parse(src)
	if err != nil {
		return err
	}
	if in.Len != len(dst) {
		return fmt.Errorf("codec: decode: %w: header says %d decoded bytes, want %d", ErrCorrupt, in.Len, len(dst))
	}
	if in.Len == 0 {
		return nil
	}
	if in.Copied {
		copy(dst, src[HeaderLen:])
		return nil
	}
	if in.Name == Snappy {
		return fmt.Errorf("codec: decode: %w: snappy streams; encode the chunk again with lz4, zlib or zstd", ErrUnsupported)
	}
	dst = dst[:len(dst):len(dst)] // no stream may use the room behind
	n := in.blocks()
	if n > (len(src)-HeaderLen)/4 {
		return fmt.Errorf("codec: decode: %w: table of %d blocks in %d bytes", ErrCorrupt, n, len(src))
	}
	for i := range n {
		at := le32(src[HeaderLen+4*i:])
		block := dst[i*in.BlockSize:][:in.blockLen(i)]
		if err := d.block(block, src, int64(at), in); err != nil {
			return fmt.Errorf("codec: decode: block %d of %d: %w", i, n, err)
		}
	}
	return nil
}

// block decodes one block, whose streams start at src[at:], into dst.
func (d *Decoder) block(dst, src []byte, at int64, in Info) error {
	out := dst
	bits := in.Shuffle == ShuffleBit && len(dst) >= in.TypeSize
	bytes := in.Shuffle == ShuffleByte && in.TypeSize > 1
	if bits || bytes {
		d.filtered = slices.Grow(d.filtered[:0], len(dst)+slack)[:len(dst)]
		out = d.filtered
	}
	streams := in.streams(len(dst))
	size := len(dst) / streams
	for j := range streams {
		if at < HeaderLen || at > int64(len(src)-4) {
			return fmt.Errorf("%w: stream %d at byte %d of %d", ErrCorrupt, j, at, len(src))
		}
		n := int64(le32(src[at:]))
		at += 4
		if n > int64(len(src))-at {
			return fmt.Errorf("%w: stream %d of %d bytes at byte %d of %d", ErrCorrupt, j, n, at, len(src))
		}
		if err := d.stream(out[j*size:(j+1)*size], src[at:at+n], in.Name); err != nil {
			return fmt.Errorf("stream %d at byte %d: %w", j, at, err)
		}
		at += n
	}
	switch {
	case bytes:
		unshuffle(dst, out, in.TypeSize)
	case bits:
		d.planes = slices.Grow(d.planes[:0], len(dst))[:len(dst)]
		bitUnshuffle(dst, out, d.planes, in.TypeSize)
	}
	return nil
}

// stream decompresses src into exactly dst. Bytes between len(dst) and
// cap(dst) may be overwritten: they belong to a later stream of the same chunk.
func (d *Decoder) stream(dst, src []byte, name Name) error {
	if len(src) == len(dst) {
		copy(dst, src)
		return nil
	}
	var n int
	var err error
	switch name {
	case LZ4:
		n, err = lz4.UncompressBlock(src, dst)
	case Zlib:
		n, err = d.zlib.decompress(dst, src)
	case Zstd:
		n, err = len(dst), d.zstd.Decode(dst, src)
	default:
		n, err = decodeBloscLZ(dst, src)
	}
	if errors.Is(err, unzstd.ErrDictionary) {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %v: %v", ErrCorrupt, name, err)
	}
	if n != len(dst) {
		return fmt.Errorf("%w: %v stream decodes to %d bytes, want %d", ErrCorrupt, name, n, len(dst))
	}
	return nil
}
