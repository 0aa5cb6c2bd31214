package codec

import (
	"encoding/binary"
	"math/bits"
)

// Numbers of the lazy search.
const (
	zstdMaxBlock   = 128 << 10
	zstdMinMatch   = 4
	lazyHashBits   = 16
	lazyRun        = 64  // literals in a row from which on a match must gain more
	lazyRunGain    = 8   // than chance finds in noise
	lazySkipShift  = 8   // literals in a row for each byte that the step grows
	lazySparse     = 4   // step from which on positions between are not entered
	lazyFarBehind  = 384 // bytes of a match beyond which only the last are entered
	lazyEnterAfter = 32
)

// zstdLazy is a zstd encoder between the library's default, which tries one or
// two candidates a position, and its best, which weighs entropies: it follows
// a chain of positions with the same four bytes and puts a match off by up to
// two bytes for a better one, as libzstd does at its levels 6 to 10.
type zstdLazy struct {
	blocks *zstdBlocks
	src    []byte
	head   [1 << lazyHashBits]int32 // latest position + 1 by hash
	chain  []int32                  // the one before it
	next   int                      // first position that was not entered
	recent [3]int
	depth  int
	sparse bool // the search takes large steps
}

// compress appends a frame of src, in blocks of at most block bytes, to dst.
func (z *zstdLazy) compress(dst, src []byte, block, depth int) []byte {
	clear(z.head[:])
	if cap(z.chain) < len(src) {
		z.chain = make([]int32, len(src))
	}
	z.src, z.chain, z.next, z.recent, z.depth = src, z.chain[:len(src)], 0, [3]int{1, 4, 8}, depth
	dst = appendFrameHeader(dst, len(src))
	block = min(block, zstdMaxBlock)
	for at := 0; at < len(src); at += block {
		end := min(at+block, len(src))
		recent := z.recent
		z.parse(at, end)
		var compressed bool
		dst, compressed = z.blocks.append(dst, src[at:end], end == len(src))
		if !compressed {
			z.recent = recent
		}
	}
	z.src = nil
	return dst
}

// appendFrameHeader writes the header of a single segment frame of n bytes.
func appendFrameHeader(dst []byte, n int) []byte {
	dst = append(dst, 0x28, 0xb5, 0x2f, 0xfd)
	switch {
	case n < 256:
		return append(dst, 0x20, byte(n))
	case n < 65536+256:
		return binary.LittleEndian.AppendUint16(append(dst, 0x60), uint16(n-256))
	}
	return binary.LittleEndian.AppendUint32(append(dst, 0xa0), uint32(n))
}

// found is a match: n bytes from dist back.
type found struct{ n, dist int }

// gain weighs a match: four a byte, less the bits of its distance.
func (f found) gain() int { return 4*f.n - bits.Len(uint(f.dist)+2) }

// parse fills the blocks' literals and sequences from src[at:end].
func (z *zstdLazy) parse(at, end int) {
	b := z.blocks
	b.literals, b.seqs = b.literals[:0], b.seqs[:0]
	anchor, limit := at, end-8
	for ip := at; ip < limit; {
		best, start := z.at(ip, end), ip
		if best.n < zstdMinMatch || ip-anchor > lazyRun && best.gain() < lazyRunGain {
			step := (ip-anchor)>>lazySkipShift + 1
			z.sparse = step > lazySparse
			ip += step
			continue
		}
		for late := 0; late < 2 && ip+1 < limit; late++ {
			ip++
			other := z.at(ip, end)
			if other.gain() <= best.gain()+4+3*late {
				continue
			}
			best, start, late = other, ip, -1
		}
		for start > anchor && start-best.dist > 0 && best.dist != z.recent[0] && z.src[start-1] == z.src[start-best.dist-1] {
			start, best.n = start-1, best.n+1
		}
		b.literals = append(b.literals, z.src[anchor:start]...)
		b.seqs = append(b.seqs, zstdSeq{uint32(start - anchor), uint32(best.n - 3), z.offset(best.dist, start == anchor)})
		ip = start + best.n
		anchor = ip
	}
	b.literals = append(b.literals, z.src[anchor:end]...)
}

// offset returns how the format says dist, and makes it the most recent.
func (z *zstdLazy) offset(dist int, noLiterals bool) uint32 {
	r := &z.recent
	shift := uint32(0)
	if noLiterals { // the most recent cannot follow itself: the others move up
		shift = 1
	}
	switch {
	case dist == r[0] && !noLiterals:
		return 1
	case dist == r[1]:
		r[0], r[1] = dist, r[0]
		return 2 - shift
	case dist == r[2]:
		r[0], r[1], r[2] = dist, r[0], r[1]
		return 3 - shift
	case noLiterals && dist == r[0]-1:
		r[0], r[1], r[2] = dist, r[0], r[1]
		return 3
	}
	r[0], r[1], r[2] = dist, r[0], r[1]
	return uint32(dist) + 3
}

// at returns the best match at ip.
func (z *zstdLazy) at(ip, end int) found {
	src := z.src
	v := binary.LittleEndian.Uint32(src[ip:])
	best := found{}
	if r := z.recent[0]; r <= ip && binary.LittleEndian.Uint32(src[ip-r:]) == v {
		best = found{matchLen(src, ip+4, ip+4-r, end) + 4, 0}
	}
	z.enter(ip)
	h := hashFour(v)
	cand := int(z.head[h]) - 1
	for tries := z.depth; cand >= 0 && tries > 0; tries-- {
		n := best.n
		if ip+n < end && src[cand+n] == src[ip+n] && binary.LittleEndian.Uint32(src[cand:]) == v {
			other := found{matchLen(src, ip+4, cand+4, end) + 4, ip - cand}
			if other.n > best.n && other.gain() > best.gain() {
				best = other
				if ip+best.n >= end {
					break
				}
			}
		}
		cand = int(z.chain[cand]) - 1
	}
	if best.n > 0 && best.dist == 0 {
		best.dist = z.recent[0]
	}
	z.push(ip, h)
	return best
}

func hashFour(v uint32) uint32 { return v * 2654435761 >> (32 - lazyHashBits) }

// push enters ip unless that was done.
func (z *zstdLazy) push(ip int, h uint32) {
	if z.next == ip {
		z.chain[ip] = z.head[h]
		z.head[h] = int32(ip + 1)
		z.next = ip + 1
	}
}

// enter enters the positions before ip in the chains.
func (z *zstdLazy) enter(ip int) {
	switch behind := ip - z.next; {
	case z.sparse && behind > lazySparse:
		z.next = ip
	case behind > lazyFarBehind:
		z.next = ip - lazyEnterAfter
	}
	for ; z.next < ip; z.next++ {
		h := hashFour(binary.LittleEndian.Uint32(z.src[z.next:]))
		z.chain[z.next] = z.head[h]
		z.head[h] = int32(z.next + 1)
	}
}

// matchLen returns how many bytes from a on, before end, equal those from b on.
func matchLen(src []byte, a, b, end int) int {
	start := a
	for a+8 <= end {
		if d := le64(src[a:]) ^ le64(src[b:]); d != 0 {
			return a + bits.TrailingZeros64(d)/8 - start
		}
		a, b = a+8, b+8
	}
	for a < end && src[a] == src[b] {
		a, b = a+1, b+1
	}
	return a - start
}
