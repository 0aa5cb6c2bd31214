package unzstd

import (
	"fmt"
	"math/bits"
)

// code is one of the three codes of a sequence: how a symbol becomes a number.
type code struct {
	name       string
	extra      []uint8       // bits that follow a symbol
	packed     [1 << 6]entry // those, and what they are added to, by symbol
	maxLog     uint
	predefined []int16
	defaultLog uint
}

// The codes (RFC 8878, 3.1.1.3.2.1), in the order of the format. An offset
// symbol is a power of two that as many bits are added to; [loop.useOffset] says
// what the sum means.
var (
	literalCode = code{
		name:       "literal length",
		extra:      []uint8{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		maxLog:     9,
		defaultLog: 6,
		predefined: []int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1},
	}
	offsetCode = code{
		name:       "offset",
		extra:      []uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31},
		maxLog:     8,
		defaultLog: 5,
		predefined: []int16{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1},
	}
	matchCode = code{
		name:       "match length",
		extra:      []uint8{32: 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		maxLog:     9,
		defaultLog: 6,
		predefined: []int16{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1},
	}
)

// The predefined tables, built once.
var (
	literalDefault = literalCode.finish(0)
	offsetDefault  = offsetCode.finish(1)
	matchDefault   = matchCode.finish(3)
)

// finish fills packed, where the first value is from, and returns the
// predefined table.
func (c *code) finish(from uint32) []entry {
	for s, n := range c.extra {
		c.packed[s] = entry(n) | entry(from)<<32
		from += 1 << n
	}
	table := make([]entry, 1<<c.defaultLog)
	c.build(table, c.predefined, c.defaultLog)
	return table
}

const (
	maxSymbols   = 53 // of any of the codes
	maxWeightLog = 6  // of the table of Huffman weights
	maxWeight    = 11 // also the longest Huffman code in bits
	maxStates    = 512
)

// entry is one state of a decoding table, as the assembly reads it: in the
// first byte the symbol's extra bits, in the second the bits that are added to
// the next state, then in 16 bits eight times the next state, then the symbol's
// base.
type entry uint64

func (e entry) extra() uint   { return uint(e & 0xff) }
func (e entry) bits() uint    { return uint(e >> 8 & 0xff) }
func (e entry) next() uint64  { return uint64(e >> 19 & 0x1fff) }
func (e entry) value() uint64 { return uint64(e >> 32) }

// build fills table, which has 1<<log states, from the shares of the symbols.
func (c *code) build(table []entry, norm []int16, log uint) {
	var symbols [maxStates]uint8
	var next [1 << 6]uint16
	size := 1 << log
	spread(symbols[:size], norm, next[:])
	table = table[:size]
	for i, s := range symbols[:len(table)] {
		s &= 1<<6 - 1
		x := uint32(next[s])
		next[s]++
		n := log - uint(bits.Len32(x)-1)
		table[i] = c.packed[s] | entry(n)<<8 | entry(x<<(n&15)-uint32(size))<<19
	}
}

// spread says which symbol each state stands for (RFC 8878, 4.1.1), and the
// first number that each symbol's states count from.
func spread(symbols []uint8, norm []int16, next []uint16) {
	size := uint(len(symbols))
	high := size
	for s, p := range norm {
		if p == -1 {
			high--
			symbols[high] = uint8(s)
			next[s] = 1
		} else {
			next[s] = uint16(p)
		}
	}
	at, step, mask := uint(0), size>>1+size>>3+3, size-1
	for s, p := range norm {
		for range p {
			symbols[at&mask] = uint8(s)
			for at = (at + step) & mask; at >= high; {
				at = (at + step) & mask
			}
		}
	}
}

// readNorm reads the description of a table (RFC 8878, 4.1.1): how many of its
// states each symbol gets, where -1 is one state at the end. It returns the
// number of symbols, the size of the table as a power of two and the bytes read.
func readNorm(norm []int16, src []byte, maxLog uint) (symbols int, log uint, size int, err error) {
	if len(src) == 0 {
		return 0, 0, 0, fmt.Errorf("%w: no table", ErrCorrupt)
	}
	log = uint(src[0]&15) + 5
	if log > maxLog {
		return 0, 0, 0, fmt.Errorf("%w: table of 2^%d states, at most 2^%d", ErrCorrupt, log, maxLog)
	}
	at := 4 // bits read
	left, threshold, width := 1<<log+1, 1<<log, int(log)+1
	s, zero := 0, false
	for left > 1 {
		if zero {
			for {
				more := int(peekForward(src, at) & 3)
				at += 2
				s += more
				if more < 3 || s > len(norm) {
					break
				}
			}
		}
		if s >= len(norm) {
			return 0, 0, 0, fmt.Errorf("%w: table with more than %d symbols", ErrCorrupt, len(norm))
		}
		v, short := int(peekForward(src, at)), 2*threshold-1-left
		if low := v & (threshold - 1); low < short {
			v = low
			at += width - 1
		} else {
			if v &= 2*threshold - 1; v >= threshold {
				v -= short
			}
			at += width
		}
		v--
		norm[s] = int16(v)
		s++
		left -= max(v, -v)
		zero = v == 0
		for left < threshold && threshold > 1 {
			width--
			threshold >>= 1
		}
	}
	size = (at + 7) / 8
	if left != 1 || size > len(src) {
		return 0, 0, 0, fmt.Errorf("%w: table's shares do not add up", ErrCorrupt)
	}
	return s, log, size, nil
}

// peekForward returns 16 bits from bit at on, zeros behind the end.
func peekForward(src []byte, at int) uint32 {
	var v uint32
	for i := range 3 {
		if b := at/8 + i; b < len(src) {
			v |= uint32(src[b]) << (8 * i)
		}
	}
	return v >> (at % 8) & 0xffff
}
