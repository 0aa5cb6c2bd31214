//go:build !(amd64 || arm64) || purego

package codec

import "github.com/pierrec/lz4/v4"

// lz4Encoder is the library's port of LZ4_compress_fast.
type lz4Encoder struct{ c lz4.CompressorCCompat }

// compress writes the LZ4 block of src into dst and returns its size, 0 if it
// does not fit.
func (e *lz4Encoder) compress(dst, src []byte, acceleration int) int {
	e.c.Acceleration = acceleration
	n, err := e.c.CompressBlock(src, dst)
	if err != nil {
		return 0
	}
	return n
}
