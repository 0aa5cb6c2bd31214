package unzstd

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// backward reads a bit stream from its end to its start, as all entropy coded
// streams of zstd are read. The last set bit of the last byte ends it.
type backward struct {
	src  []byte
	left int // bits not read; negative once more was asked for than there is
}

func newBackward(src []byte) (backward, error) {
	if len(src) == 0 || src[len(src)-1] == 0 {
		return backward{}, fmt.Errorf("%w: bit stream without an end", ErrCorrupt)
	}
	return backward{src, 8*len(src) - 9 + bits.Len8(src[len(src)-1])}, nil
}

// peek returns the next bits, the first at the top. At least 57 of them are of
// the stream or zeros before its start.
func (b *backward) peek() uint64 {
	at := (b.left+7)>>3 - 8
	if uint(at) < uint(len(b.src)) && len(b.src)-at >= 8 {
		return binary.LittleEndian.Uint64(b.src[at:]) << (-b.left & 7)
	}
	return b.peekStart()
}

// peekStart is peek where fewer than eight bytes are left.
func (b *backward) peekStart() uint64 {
	if b.left <= 0 {
		return 0
	}
	var v uint64
	for i, c := range b.src[:min(8, len(b.src))] {
		v |= uint64(c) << (8 * i)
	}
	return v << (64 - b.left)
}

// take returns the next n bits, at most 57.
func (b *backward) take(n uint) uint64 {
	v := b.peek() >> 1 >> (63 - n&63)
	b.left -= int(n)
	return v
}
