package unzstd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Errors to test for with errors.Is. Every error of this package wraps one.
var (
	// ErrCorrupt says that the bytes are no zstd frames, or that they say
	// another size than the caller.
	ErrCorrupt = errors.New("corrupt zstd frame")
	// ErrDictionary says that a frame needs a dictionary.
	ErrDictionary = errors.New("zstd frame needs a dictionary")
)

const (
	magic         = 0xfd2fb528
	skippable     = 0x184d2a50 // and 15 more
	skippableMask = 0xfffffff0
	maxBlock      = 128 << 10
	minWindow     = 1 << 10
	unknown       = math.MaxUint64

	// Slack is the room behind the decoded bytes that lets a stream end with
	// copies in wide steps.
	Slack = 64

	blockRaw        = 0
	blockRLE        = 1
	blockCompressed = 2
)

// Decoder decodes frames and keeps tables from one to the next. The zero value
// is ready. One goroutine at a time may use it.
type Decoder struct {
	loop     loop
	huffman  huffman
	literal  [maxBlock + Slack]byte
	maxBlock int    // bytes of a block of this frame, decoded and not
	content  uint64 // what the header says, or unknown
	checksum bool   // there is one
}

// Decode decodes the frames in src, which together must hold len(dst) bytes,
// into dst. Bytes between len(dst) and cap(dst), up to Slack, may be
// overwritten. After an error the content of dst is undefined. The error wraps
// [ErrCorrupt] or [ErrDictionary].
func (d *Decoder) Decode(dst, src []byte) error {
	out := 0
	for len(src) > 0 {
		if len(src) < 4 {
			return fmt.Errorf("%w: %d bytes behind the last frame", ErrCorrupt, len(src))
		}
		if binary.LittleEndian.Uint32(src)&skippableMask == skippable {
			if len(src) < 8 || uint64(binary.LittleEndian.Uint32(src[4:])) > uint64(len(src)-8) {
				return fmt.Errorf("%w: skippable frame is cut", ErrCorrupt)
			}
			src = src[8+int(binary.LittleEndian.Uint32(src[4:])):]
			continue
		}
		n, size, err := d.frame(dst, src, out)
		if err != nil {
			return fmt.Errorf("unzstd: decode: byte %d of %d: %w", out, len(dst), err)
		}
		out, src = n, src[size:]
	}
	if out != len(dst) {
		return fmt.Errorf("unzstd: decode: %w: %d bytes, want %d", ErrCorrupt, out, len(dst))
	}
	return nil
}

// frame decodes the frame that src starts with into dst[out:] and returns the
// end of what it wrote and the size of the frame.
func (d *Decoder) frame(dst, src []byte, out int) (int, int, error) {
	at, err := d.frameHead(src)
	if err == nil && d.content > uint64(len(dst)-out) && d.content != unknown {
		err = fmt.Errorf("%w: frame of %d bytes where %d fit", ErrCorrupt, d.content, len(dst)-out)
	}
	if err != nil {
		return 0, 0, err
	}
	start := out
	d.loop.reset(start)
	d.huffman.maxBits = 0
	for last := false; !last; {
		if len(src)-at < 3 {
			return 0, 0, fmt.Errorf("%w: frame is cut", ErrCorrupt)
		}
		head := int(src[at]) | int(src[at+1])<<8 | int(src[at+2])<<16
		at += 3
		last = head&1 != 0
		n := head >> 3
		size := n
		if head>>1&3 == blockRLE {
			size = 1
		}
		if n > d.maxBlock || size > len(src)-at {
			return 0, 0, fmt.Errorf("%w: block of %d bytes, %d are left", ErrCorrupt, n, len(src)-at)
		}
		block := src[at : at+size]
		at += size
		switch head >> 1 & 3 {
		case blockRaw, blockRLE:
			if n > len(dst)-out {
				return 0, 0, fmt.Errorf("%w: block of %d bytes where %d fit", ErrCorrupt, n, len(dst)-out)
			}
			if size == n {
				copy(dst[out:], block)
			} else {
				fill(dst[out:out+n], block[0])
			}
			out += n
		case blockCompressed:
			if out, err = d.block(dst, block, out); err != nil {
				return 0, 0, err
			}
		default:
			return 0, 0, fmt.Errorf("%w: reserved kind of block", ErrCorrupt)
		}
	}
	if d.content != unknown && d.content != uint64(out-start) {
		return 0, 0, fmt.Errorf("%w: frame of %d bytes says %d", ErrCorrupt, out-start, d.content)
	}
	if d.checksum {
		if len(src)-at < 4 || binary.LittleEndian.Uint32(src[at:]) != uint32(xxh64(dst[start:out])) {
			return 0, 0, fmt.Errorf("%w: checksum", ErrCorrupt)
		}
		at += 4
	}
	return out, at, nil
}

// frameHead reads a frame's header and returns its size. Of the window only
// what it says about blocks is held against a frame: all that was decoded is
// there, and libzstd lets distances reach it too.
func (d *Decoder) frameHead(src []byte) (int, error) {
	if len(src) < 5 || binary.LittleEndian.Uint32(src) != magic {
		return 0, fmt.Errorf("%w: no frame", ErrCorrupt)
	}
	flags := src[4]
	at := 5
	single, window := flags>>5&1 != 0, uint64(0)
	if !single {
		if len(src) > 5 {
			window = 1 << (10 + uint(src[5]>>3))
			window += window / 8 * uint64(src[5]&7)
		}
		at++
	}
	idSize := [4]int{0, 1, 2, 4}[flags&3]
	sizeSize := [4]int{0, 2, 4, 8}[flags>>6]
	if sizeSize == 0 && single {
		sizeSize = 1
	}
	if flags&8 != 0 || len(src) < at+idSize+sizeSize {
		return 0, fmt.Errorf("%w: header of a frame", ErrCorrupt)
	}
	if id := leUint(src[at : at+idSize]); id != 0 {
		return 0, fmt.Errorf("%w: %d", ErrDictionary, id)
	}
	at += idSize
	d.content = unknown
	if sizeSize > 0 {
		d.content = leUint(src[at : at+sizeSize])
		if sizeSize == 2 {
			d.content += 256
		}
	}
	if single {
		window = max(d.content, minWindow)
	}
	d.maxBlock = int(min(window, maxBlock))
	d.checksum = flags&4 != 0
	return at + sizeSize, nil
}

func leUint(b []byte) (v uint64) {
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return v
}

// block decodes a compressed block into dst[out:] and returns the end of what
// it wrote.
func (d *Decoder) block(dst, src []byte, out int) (int, error) {
	end := min(len(dst), out+d.maxBlock)
	h, err := readLiteralsHead(src)
	if err != nil {
		return 0, err
	}
	rest := src[h.head+h.size:]
	n, size, err := readSequencesHead(rest)
	if err != nil {
		return 0, err
	}
	if n == 0 { // all is literals
		if size != len(rest) || h.n > end-out {
			return 0, fmt.Errorf("%w: block of %d literals with %d bytes of sequences where %d fit", ErrCorrupt, h.n, len(rest), end-out)
		}
		return out + h.n, d.literals(dst[out:out+h.n], src, h)
	}
	if err := d.literals(d.literal[:h.n], src, h); err != nil {
		return 0, err
	}
	rest = rest[size:]
	size, err = d.loop.readTables(rest)
	if err != nil {
		return 0, err
	}
	d.loop.out, d.loop.outEnd = out, end
	d.loop.lit, d.loop.litEnd = 0, h.n
	d.loop.wild = min(cap(dst), len(dst)+Slack)
	err = d.loop.run(dst[:d.loop.wild], rest[size:], d.literal[:], n)
	return d.loop.out, err
}
