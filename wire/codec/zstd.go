package codec

import (
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

// Sizes of the zstd encoders' windows, as powers of two.
const (
	minZstdWindow = 12
	maxZstdWindow = 22
)

// C-Blosc's levels 1 to 9 are libzstd's 1, 3, 5, 7, 9, 11, 13, 20 and 22. The
// low ones go to the library, by zstdSpeed; the others to zstdLazy, with so many
// candidates a position. The library's SpeedBetterCompression is no smaller
// than its default on shuffled data, and its SpeedBestCompression no smaller
// than zstdLazy with 16 candidates, which is four times as fast.
var (
	zstdSpeed = [MaxLevel + 1]zstd.EncoderLevel{1: zstd.SpeedFastest, 2: zstd.SpeedDefault, 3: zstd.SpeedDefault}
	lazyDepth = [MaxLevel + 1]int{4: 1, 5: 2, 6: 8, 7: 16, 8: 32, 9: 64}
)

// zstdEncoder keeps one of the library's compressors for each speed and window
// that was needed.
type zstdEncoder struct {
	lazy     *zstdLazy
	out      []byte
	encoders [zstd.SpeedDefault + 1][maxZstdWindow + 1]*zstd.Encoder
}

// compress writes the zstd frame of src, which is shuffled in planes equal
// parts, into dst and returns its size, 0 if it does not fit.
//
// The library ends a zstd block at every multiple of the window. A window of
// one plane gives noise, exponents and zeros their own entropy tables or none:
// smaller and faster than one table for all, which a longer window would not
// make up for.
func (z *zstdEncoder) compress(dst, src []byte, level, planes int) int {
	if depth := lazyDepth[level]; depth > 0 {
		if z.lazy == nil {
			z.lazy = &zstdLazy{blocks: newZstdBlocks()}
		}
		z.out = z.lazy.compress(z.out[:0], src, max(len(src)/planes, 1<<minZstdWindow), depth)
		if len(z.out) > len(dst) {
			return 0
		}
		return copy(dst, z.out)
	}
	window := min(max(bits.Len(uint(len(src)/planes)-1), minZstdWindow), maxZstdWindow)
	if planes > 1 && len(src)/planes < 1<<window && window > minZstdWindow {
		window--
	}
	enc := z.encoder(zstdSpeed[level], window)
	out := enc.EncodeAll(src, dst[:0:len(dst)])
	if len(out) > len(dst) {
		return 0
	}
	// The encoder moves to memory of its own when its work, not its result, is
	// too long for dst.
	return copy(dst, out)
}

func (z *zstdEncoder) encoder(speed zstd.EncoderLevel, window int) *zstd.Encoder {
	enc := z.encoders[speed][window]
	if enc == nil {
		var err error
		enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true),
			zstd.WithWindowSize(1<<window), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("codec: zstd options: " + err.Error())
		}
		z.encoders[speed][window] = enc
	}
	return enc
}
