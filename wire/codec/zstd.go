package codec

import (
	"github.com/klauspost/compress/zstd"
)

// zstdEncoder keeps one compressor for each speed that was asked for.
type zstdEncoder struct {
	encoders [zstd.SpeedBestCompression + 1]*zstd.Encoder
}

// zstdSpeed maps C-Blosc's levels, which it maps to libzstd's 1, 3, 5, 7, 9,
// 11, 13, 20 and 22.
var zstdSpeed = [MaxLevel + 1]zstd.EncoderLevel{
	1: zstd.SpeedFastest,
	2: zstd.SpeedDefault,
	3: zstd.SpeedDefault,
	4: zstd.SpeedBetterCompression,
	5: zstd.SpeedBestCompression,
	6: zstd.SpeedBestCompression,
	7: zstd.SpeedBestCompression,
	8: zstd.SpeedBestCompression,
	9: zstd.SpeedBestCompression,
}

// compress writes the zstd frame of src into dst and returns its size, 0 if it
// does not fit.
func (z *zstdEncoder) compress(dst, src []byte, level int) int {
	speed := zstdSpeed[level]
	enc := z.encoders[speed]
	if enc == nil {
		var err error
		enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("codec: zstd options: " + err.Error())
		}
		z.encoders[speed] = enc
	}
	out := enc.EncodeAll(src, dst[:0:len(dst)])
	if len(out) > len(dst) {
		return 0
	}
	// The encoder moves to memory of its own when its work, not its result, is
	// too long for dst.
	return copy(dst, out)
}

// zstdDecoder decodes single frames within the room that it is given.
type zstdDecoder struct{ dec *zstd.Decoder }

func (z *zstdDecoder) decompress(dst, src []byte) (int, error) {
	if z.dec == nil {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(1<<31))
		if err != nil {
			panic("codec: zstd options: " + err.Error())
		}
		z.dec = dec
	}
	room := dst[:0:min(cap(dst), len(dst)+slack)]
	out, err := z.dec.DecodeAll(src, room)
	return len(out), err
}
