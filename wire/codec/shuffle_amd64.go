//go:build !purego

package codec

import "golang.org/x/sys/cpu"

// kernels are the vector forms of the filters for one instruction set. Each
// takes the number of elements, or plane bytes, that it does, a multiple of
// its width, and n, how far apart planes (rows) lie.
type kernels struct {
	width     int // elements a step of shuffle and unshuffle
	bits      int // plane bytes a step of rows and plane
	shuffle   [maxSplits + 1]func(dst, src *byte, count, n int)
	unshuffle [maxSplits + 1]func(dst, src *byte, count, n int)
	rows      func(rows, plane *byte, count, n int)
	plane     func(plane, rows *byte, count, n int)
}

// SSE2 is part of amd64.
var sse2 = kernels{
	width: 16, bits: 64,
	shuffle:   [maxSplits + 1]func(dst, src *byte, count, n int){2: shuffle2SSE2, 4: shuffle4SSE2, 8: shuffle8SSE2, 16: shuffle16SSE2},
	unshuffle: [maxSplits + 1]func(dst, src *byte, count, n int){2: unshuffle2SSE2, 4: unshuffle4SSE2, 8: unshuffle8SSE2, 16: unshuffle16SSE2},
	rows:      planeToRowsSSE2,
	plane:     rowsToPlaneSSE2,
}

var avx2 = kernels{
	width: 32, bits: 128,
	shuffle:   [maxSplits + 1]func(dst, src *byte, count, n int){2: shuffle2AVX2, 4: shuffle4AVX2, 8: shuffle8AVX2, 16: shuffle16AVX2},
	unshuffle: [maxSplits + 1]func(dst, src *byte, count, n int){2: unshuffle2AVX2, 4: unshuffle4AVX2, 8: unshuffle8AVX2, 16: unshuffle16AVX2},
	rows:      planeToRowsAVX2,
	plane:     rowsToPlaneAVX2,
}

// vector is what this machine runs; tests exchange it.
var vector = pickKernels()

func pickKernels() *kernels {
	if cpu.X86.HasAVX2 {
		return &avx2
	}
	return &sse2
}

func shuffleVector(dst, src []byte, size, n int) int {
	return vector.run(vector.shuffle[:], dst, src, size, n)
}

func unshuffleVector(dst, src []byte, size, n int) int {
	return vector.run(vector.unshuffle[:], dst, src, size, n)
}

// run calls the kernel for elements of size bytes and returns how many
// elements it did.
func (k *kernels) run(bySize []func(dst, src *byte, count, n int), dst, src []byte, size, n int) int {
	count := n - n%k.width
	if size >= len(bySize) || bySize[size] == nil || count == 0 {
		return 0
	}
	bySize[size](&dst[:n*size][0], &src[:n*size][0], count, n)
	return count
}

func planeToRowsVector(rows, plane []byte) int {
	count := len(plane) - len(plane)%vector.bits
	if count > 0 {
		vector.rows(&rows[:len(plane)][0], &plane[0], count, len(plane)/8)
	}
	return count
}

func rowsToPlaneVector(plane, rows []byte) int {
	count := len(plane) - len(plane)%vector.bits
	if count > 0 {
		vector.plane(&plane[0], &rows[:len(plane)][0], count, len(plane)/8)
	}
	return count
}

//go:noescape
func shuffle2SSE2(dst, src *byte, count, n int)

//go:noescape
func shuffle4SSE2(dst, src *byte, count, n int)

//go:noescape
func shuffle8SSE2(dst, src *byte, count, n int)

//go:noescape
func shuffle16SSE2(dst, src *byte, count, n int)

//go:noescape
func unshuffle2SSE2(dst, src *byte, count, n int)

//go:noescape
func unshuffle4SSE2(dst, src *byte, count, n int)

//go:noescape
func unshuffle8SSE2(dst, src *byte, count, n int)

//go:noescape
func unshuffle16SSE2(dst, src *byte, count, n int)

//go:noescape
func planeToRowsSSE2(rows, plane *byte, count, n int)

//go:noescape
func rowsToPlaneSSE2(plane, rows *byte, count, n int)

//go:noescape
func shuffle2AVX2(dst, src *byte, count, n int)

//go:noescape
func shuffle4AVX2(dst, src *byte, count, n int)

//go:noescape
func shuffle8AVX2(dst, src *byte, count, n int)

//go:noescape
func shuffle16AVX2(dst, src *byte, count, n int)

//go:noescape
func unshuffle2AVX2(dst, src *byte, count, n int)

//go:noescape
func unshuffle4AVX2(dst, src *byte, count, n int)

//go:noescape
func unshuffle8AVX2(dst, src *byte, count, n int)

//go:noescape
func unshuffle16AVX2(dst, src *byte, count, n int)

//go:noescape
func planeToRowsAVX2(rows, plane *byte, count, n int)

//go:noescape
func rowsToPlaneAVX2(plane, rows *byte, count, n int)
