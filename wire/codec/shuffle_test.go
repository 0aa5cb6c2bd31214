package codec

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// randomBytes gives the same bytes for the same seed.
func randomBytes(n int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// defineShuffle and defineBitShuffle are the definitions, element by element
// and bit by bit.
func defineShuffle(src []byte, size int) []byte {
	n := len(src) / size
	dst := bytes.Clone(src)
	for i := range n {
		for j := range size {
			dst[j*n+i] = src[i*size+j]
		}
	}
	return dst
}

func defineBitShuffle(src []byte, size int) []byte {
	n := len(src) / size
	dst := bytes.Clone(src)
	if n%8 != 0 {
		return dst
	}
	clear(dst[:n*size])
	for i := range n {
		for bit := range 8 * size {
			set := src[i*size+bit/8] >> (bit % 8) & 1
			dst[bit*(n/8)+i/8] |= set << (i % 8)
		}
	}
	return dst
}

// checkFilters runs all four filters on src and compares them with their
// definitions.
func checkFilters(t *testing.T, src []byte, size int) {
	t.Helper()
	got, back, tmp := make([]byte, len(src)), make([]byte, len(src)), make([]byte, len(src))
	shuffle(got, src, size)
	if want := defineShuffle(src, size); !bytes.Equal(got, want) {
		t.Fatalf("shuffle of %d bytes, size %d, differs from its definition", len(src), size)
	}
	unshuffle(back, got, size)
	if !bytes.Equal(back, src) {
		t.Fatalf("unshuffle of %d bytes, size %d, does not undo shuffle", len(src), size)
	}
	clear(got)
	clear(back)
	bitShuffle(got, src, tmp, size)
	if want := defineBitShuffle(src, size); !bytes.Equal(got, want) {
		t.Fatalf("bit shuffle of %d bytes, size %d, differs from its definition", len(src), size)
	}
	bitUnshuffle(back, got, tmp, size)
	if !bytes.Equal(back, src) {
		t.Fatalf("bit unshuffle of %d bytes, size %d, does not undo bit shuffle", len(src), size)
	}
}

func TestFilters(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		for _, size := range []int{1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 32, 255} {
			for _, n := range []int{0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 40, 63, 64, 65, 127, 128, 129, 136, 160, 192, 256, 1000, 1024} {
				for _, rest := range []int{0, 1, size - 1} {
					src := randomBytes(n*size+rest%size, uint64(n*size+rest))
					checkFilters(t, src, size)
				}
			}
		}
	})
}

// TestFilters_within checks that a filter writes nothing outside its block.
func TestFilters_within(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		for _, size := range []int{1, 2, 4, 8, 16} {
			for _, n := range []int{16, 32, 64, 96, 128, 1000} {
				src := randomBytes(n*size, 1)
				whole := bytes.Repeat([]byte{0xa5}, n*size+128)
				dst, tmp := whole[64:64+n*size], make([]byte, n*size)
				for _, filter := range []func(){
					func() { shuffle(dst, src, size) }, func() { unshuffle(dst, src, size) },
					func() { bitShuffle(dst, src, tmp, size) }, func() { bitUnshuffle(dst, src, tmp, size) },
				} {
					filter()
					for i, b := range whole {
						if (i < 64 || i >= 64+n*size) && b != 0xa5 {
							t.Fatalf("size %d, %d elements: byte %d beside the block was written", size, n, i-64)
						}
					}
				}
			}
		}
	})
}

func FuzzShuffle(f *testing.F) {
	for _, size := range []byte{1, 2, 3, 4, 8, 16, 255} {
		f.Add(randomBytes(int(size)*40+3, uint64(size)), size)
	}
	f.Fuzz(func(t *testing.T, src []byte, size byte) {
		if size == 0 {
			return
		}
		eachKernel(t, func(t *testing.T) { checkFilters(t, src, int(size)) })
	})
}

func BenchmarkFilters(b *testing.B) {
	for _, size := range []int{2, 4, 8, 16} {
		src := randomBytes(256<<10, 1)
		dst, tmp := make([]byte, len(src)), make([]byte, len(src))
		for _, filter := range []struct {
			name string
			run  func()
		}{
			{"shuffle", func() { shuffle(dst, src, size) }},
			{"unshuffle", func() { unshuffle(dst, src, size) }},
			{"bitshuffle", func() { bitShuffle(dst, src, tmp, size) }},
			{"bitunshuffle", func() { bitUnshuffle(dst, src, tmp, size) }},
		} {
			b.Run(fmt.Sprintf("%s/%d", filter.name, size), func(b *testing.B) {
				b.SetBytes(int64(len(src)))
				for b.Loop() {
					filter.run()
				}
			})
		}
	}
}
