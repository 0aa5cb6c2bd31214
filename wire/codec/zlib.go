package codec

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zlib"
)

// zlibLevel maps C-Blosc's levels, which are zlib's, to the library's, so that
// the ratio stays: its 6 searches less than zlib's, its 9 gives less than its 8
// on shuffled data.
var zlibLevel = [MaxLevel + 1]int{1: 1, 2: 2, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 8: 8, 9: 8}

// zlibEncoder keeps one compressor for each level that was asked for.
type zlibEncoder struct {
	writers [MaxLevel + 1]*zlib.Writer
	out     sink
}

// compress writes the zlib stream of src into dst and returns its size, 0 if
// it does not fit.
func (z *zlibEncoder) compress(dst, src []byte, level int) int {
	z.out = sink{room: dst}
	w := z.writers[level]
	if w == nil {
		w, _ = zlib.NewWriterLevel(&z.out, zlibLevel[level])
		z.writers[level] = w
	} else {
		w.Reset(&z.out)
	}
	if _, err := w.Write(src); err != nil {
		return 0
	}
	if err := w.Close(); err != nil {
		return 0
	}
	return z.out.n
}

var errFull = errors.New("output is full")

// sink is a writer into a fixed room.
type sink struct {
	room []byte
	n    int
}

func (s *sink) Write(p []byte) (int, error) {
	if len(p) > len(s.room)-s.n {
		return 0, errFull
	}
	s.n += copy(s.room[s.n:], p)
	return len(p), nil
}

type zlibDecoder struct {
	src bytes.Reader
	r   io.ReadCloser
}

func (z *zlibDecoder) decompress(dst, src []byte) (n int, err error) {
	z.src.Reset(src)
	if z.r == nil {
		z.r, err = zlib.NewReader(&z.src)
	} else {
		err = z.r.(zlib.Resetter).Reset(&z.src, nil)
	}
	if err != nil {
		z.r = nil
		return 0, err
	}
	if n, err = io.ReadFull(z.r, dst); err != nil {
		return n, err
	}
	var more [1]byte
	k, err := z.r.Read(more[:])
	if err == io.EOF {
		err = nil
	}
	return n + k, err
}
