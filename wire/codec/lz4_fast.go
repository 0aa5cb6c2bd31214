//go:build (amd64 || arm64) && !purego

package codec

import (
	"math/bits"
	"unsafe"
)

// Numbers of the LZ4 block format (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md)
// and of the greedy search of LZ4_compress_fast, which fix its output.
const (
	lz4MinMatch     = 4
	lz4LastLiterals = 5           // bytes at the end that are always literals
	lz4MatchLimit   = 12          // bytes at the end in which no match starts
	lz4MinLen       = 13          // input under which nothing is searched
	lz4MaxDistance  = 65535       //
	lz4SmallLen     = 64<<10 + 11 // input under which positions are 16 bits
	lz4SkipShift    = 6           // searches without a match before the step grows
	lz4HashBits     = 12          // of a table of 32 bit positions; one more for 16 bits
)

// lz4Encoder holds the positions of four or five byte sequences by hash, the
// one of them that a stream's length calls for.
//
// It makes the same bytes as LZ4_compress_fast and the library's
// CompressorCCompat, which stands in where pointers may not be used and which
// tests compare it with. Its search is written out for each width of position,
// so that hashing needs no variable shift, and checks output once a sequence.
type lz4Encoder struct {
	small [2 << lz4HashBits]uint16
	large [1 << lz4HashBits]uint32
}

// compress writes the LZ4 block of src into dst, which is not longer than src,
// and returns its size, 0 if it does not fit.
func (e *lz4Encoder) compress(dst, src []byte, acceleration int) int {
	if len(src) < lz4MinLen || len(dst) == 0 {
		return lz4Literals(dst, 0, src)
	}
	if len(src) < lz4SmallLen {
		clear(e.small[:])
		return lz4Fast(unsafe.Pointer(&e.small), uint16(0), dst, src, acceleration)
	}
	clear(e.large[:])
	return lz4Fast(unsafe.Pointer(&e.large), uint32(0), dst, src, acceleration)
}

// lz4Fast searches with a table of positions of type T.
//
// Loads stay inside src: searched positions and with them all older ones end
// lz4MatchLimit bytes before its end, matches lz4LastLiterals before. Stores
// stay inside dst: each sequence is checked with eight bytes to spare, by which
// literals that are copied eight at a time may overshoot.
func lz4Fast[T uint16 | uint32](table unsafe.Pointer, width T, dst, src []byte, acceleration int) int {
	in, out := unsafe.Pointer(unsafe.SliceData(src)), unsafe.Pointer(unsafe.SliceData(dst))
	limit := uint(len(src) - lz4MatchLimit + 1)
	matchLimit := uint(len(src) - lz4LastLiterals)
	room := uint(len(dst))
	hash := func(v uint64) uintptr {
		if unsafe.Sizeof(width) == 2 {
			return uintptr(v<<32*2654435761>>(64-lz4HashBits-1)) * unsafe.Sizeof(width)
		}
		return uintptr(v<<24*889523592379>>(64-lz4HashBits)) * unsafe.Sizeof(width)
	}
	var anchor, op uint
	*(*T)(unsafe.Add(table, hash(load64(in, 0)))) = 0
	ip := uint(1)
	for {
		// Search.
		var match uint
		next, nextV := ip, load64(in, ip)
		nextH := hash(nextV)
		for step, tries := uint(1), uint(acceleration)<<lz4SkipShift; ; tries++ {
			v, slot := uint32(nextV), (*T)(unsafe.Add(table, nextH))
			ip = next
			next += step
			step = tries >> lz4SkipShift
			if next > limit {
				return lz4Literals(dst, op, src[anchor:])
			}
			nextV = load64(in, next)
			nextH = hash(nextV)
			match = uint(*slot)
			*slot = T(ip)
			if load32(in, match) == v && (unsafe.Sizeof(width) == 2 || ip-match <= lz4MaxDistance) {
				break
			}
		}
		for ip > anchor && match > 0 && load8(in, ip-1) == load8(in, match-1) {
			ip, match = ip-1, match-1
		}
		// Literals.
		n := ip - anchor
		token := op
		op++
		if op+n+8+n/255 > room {
			return 0
		}
		code := n
		if n >= 15 {
			code = 15
			op = lz4Length(out, op, n-15)
		}
		if n <= 64 {
			for i := uint(0); i < n; i += 8 {
				store64(out, op+i, load64(in, anchor+i))
			}
		} else {
			copy(dst[op:op+n], src[anchor:ip])
		}
		op += n
		for {
			// Match.
			store16(out, op, uint16(ip-match))
			op += 2
			n = lz4Count(in, ip+lz4MinMatch, match+lz4MinMatch, matchLimit)
			ip += n + lz4MinMatch
			if op+1+lz4LastLiterals+(n+240)/255 > room {
				return 0
			}
			if n >= 15 {
				store8(out, token, byte(code<<4|15))
				op = lz4Length(out, op, n-15)
			} else {
				store8(out, token, byte(code<<4|n))
			}
			anchor = ip
			if ip >= limit {
				return lz4Literals(dst, op, src[anchor:])
			}
			*(*T)(unsafe.Add(table, hash(load64(in, ip-2)))) = T(ip - 2)
			// A match may follow at once.
			v := load64(in, ip)
			slot := (*T)(unsafe.Add(table, hash(v)))
			match = uint(*slot)
			*slot = T(ip)
			if load32(in, match) != uint32(v) || unsafe.Sizeof(width) == 4 && ip-match > lz4MaxDistance {
				break
			}
			token, code = op, 0
			op++
		}
		ip++
	}
}

// lz4Count returns how many bytes from a on, before limit, equal those from b on.
func lz4Count(in unsafe.Pointer, a, b, limit uint) uint {
	start := a
	for a+8 <= limit {
		if d := load64(in, a) ^ load64(in, b); d != 0 {
			return a + uint(bits.TrailingZeros64(d))/8 - start
		}
		a, b = a+8, b+8
	}
	for a < limit && load8(in, a) == load8(in, b) {
		a, b = a+1, b+1
	}
	return a - start
}

// lz4Length writes what of a length does not fit into a token.
func lz4Length(out unsafe.Pointer, op, n uint) uint {
	for ; n >= 255; n -= 255 {
		store8(out, op, 255)
		op++
	}
	store8(out, op, byte(n))
	return op + 1
}

// lz4Literals writes the last sequence at dst[op:] and returns the size of the
// block, 0 if it does not fit.
func lz4Literals(dst []byte, op uint, literals []byte) int {
	n := uint(len(literals))
	if op+n+1+(n+255-15)/255 > uint(len(dst)) {
		return 0
	}
	if n < 15 {
		dst[op] = byte(n << 4)
		op++
	} else {
		dst[op] = 15 << 4
		op++
		for n -= 15; n >= 255; n -= 255 {
			dst[op] = 255
			op++
		}
		dst[op] = byte(n)
		op++
	}
	return int(op) + copy(dst[op:], literals)
}

func load8(p unsafe.Pointer, i uint) byte        { return *(*byte)(unsafe.Add(p, i)) }
func load32(p unsafe.Pointer, i uint) uint32     { return *(*uint32)(unsafe.Add(p, i)) }
func load64(p unsafe.Pointer, i uint) uint64     { return *(*uint64)(unsafe.Add(p, i)) }
func store8(p unsafe.Pointer, i uint, v byte)    { *(*byte)(unsafe.Add(p, i)) = v }
func store16(p unsafe.Pointer, i uint, v uint16) { *(*uint16)(unsafe.Add(p, i)) = v }
func store64(p unsafe.Pointer, i uint, v uint64) { *(*uint64)(unsafe.Add(p, i)) = v }
