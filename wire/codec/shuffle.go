package codec

// The filters below work on n whole elements of size bytes each: element i is
// bytes size*i to size*i+size of an unshuffled block. dst and src do not
// overlap; bytes behind the last whole element are copied as they are.
//
// shuffleFrom, unshuffleFrom, planesToRowsFrom and rowsToPlanesFrom are the
// portable twins of the vector kernels and define them. The kernels do a
// multiple of their width and leave the rest, from element `from` on, to the
// twin.

// shuffle gathers byte j of all elements in plane j: dst[j*n+i] = src[i*size+j].
func shuffle(dst, src []byte, size int) {
	n := len(src) / size
	from := shuffleVector(dst, src, size, n)
	shuffleFrom(dst, src, size, n, from)
	copy(dst[n*size:], src[n*size:])
}

// unshuffle undoes shuffle.
func unshuffle(dst, src []byte, size int) {
	n := len(src) / size
	from := unshuffleVector(dst, src, size, n)
	unshuffleFrom(dst, src, size, n, from)
	copy(dst[n*size:], src[n*size:])
}

// bitShuffle gathers bit k of byte j of all elements in row 8*j+k of n/8 bytes,
// element i at bit i%8 of byte i/8, with tmp as room for len(src) bytes. It
// copies a block whose number of elements is no multiple of eight.
func bitShuffle(dst, src, tmp []byte, size int) {
	n := len(src) / size
	if n%8 != 0 || n == 0 {
		copy(dst, src)
		return
	}
	planes := src
	if size > 1 {
		planes = tmp[:len(src)]
		shuffle(planes, src, size)
	}
	for j := range size {
		from := planeToRowsVector(dst[j*n:(j+1)*n], planes[j*n:(j+1)*n])
		planeToRowsFrom(dst[j*n:(j+1)*n], planes[j*n:(j+1)*n], from)
	}
	copy(dst[n*size:], src[n*size:])
}

// bitUnshuffle undoes bitShuffle.
func bitUnshuffle(dst, src, tmp []byte, size int) {
	n := len(src) / size
	if n%8 != 0 || n == 0 {
		copy(dst, src)
		return
	}
	planes := dst
	if size > 1 {
		planes = tmp[:len(src)]
	}
	for j := range size {
		from := rowsToPlaneVector(planes[j*n:(j+1)*n], src[j*n:(j+1)*n])
		rowsToPlaneFrom(planes[j*n:(j+1)*n], src[j*n:(j+1)*n], from)
	}
	if size > 1 {
		unshuffle(dst[:n*size], planes[:n*size], size)
	}
	copy(dst[n*size:], src[n*size:])
}

func shuffleFrom(dst, src []byte, size, n, from int) {
	for i := from; i < n; i++ {
		e := src[i*size : i*size+size]
		for j, b := range e {
			dst[j*n+i] = b
		}
	}
}

func unshuffleFrom(dst, src []byte, size, n, from int) {
	for i := from; i < n; i++ {
		e := dst[i*size : i*size+size]
		for j := range e {
			e[j] = src[j*n+i]
		}
	}
}

// planeToRowsFrom makes eight rows of len(plane)/8 bytes, one a bit.
func planeToRowsFrom(rows, plane []byte, from int) {
	w := len(plane) / 8
	for i := from / 8; i < w; i++ {
		x := transpose8(le64(plane[8*i:]))
		for k := range 8 {
			rows[k*w+i] = byte(x >> (8 * k))
		}
	}
}

// rowsToPlaneFrom undoes planeToRowsFrom.
func rowsToPlaneFrom(plane, rows []byte, from int) {
	w := len(plane) / 8
	for i := from / 8; i < w; i++ {
		var x uint64
		for k := range 8 {
			x |= uint64(rows[k*w+i]) << (8 * k)
		}
		putLE64(plane[8*i:], transpose8(x))
	}
}

// transpose8 transposes an 8×8 bit matrix whose row r is byte r
// (Warren, Hacker's Delight, 7-3).
func transpose8(x uint64) uint64 {
	t := (x ^ x>>7) & 0x00aa00aa00aa00aa
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000cccc0000cccc
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000f0f0f0f0
	return x ^ t ^ t<<28
}
