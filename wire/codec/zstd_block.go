package codec

import (
	"math/bits"

	"github.com/klauspost/compress/huff0"
)

// Kinds of zstd blocks, of literals and of sequence tables (RFC 8878, 3.1).
const (
	zstdRaw        = 0
	zstdRLE        = 1
	zstdCompressed = 2

	zstdPredefined = 0
	zstdTable      = 2
)

// zstdSeq is a run of literals and the match behind it.
type zstdSeq struct {
	literals, match uint32 // lengths; the match's less 3
	offset          uint32 // 1 to 3 a recent one, else 3 more than the distance
}

// zstdCode is one of the three codes of a sequence.
type zstdCode struct {
	predefined fseCoder
	maxLog     uint
	n          int                // symbols in use
	counts     [fseMaxSymbols]int // of this block
	own        fseCoder
	use        *fseCoder
}

// zstdBlocks writes blocks of literals and sequences. The library has the
// entropy coder of literals, huff0; that of sequences is in zstd_fse.go.
type zstdBlocks struct {
	huff     huff0.Scratch
	literals []byte
	seqs     []zstdSeq
	codes    [][3]uint8 // literal length, offset, match length
	code     [3]zstdCode
}

// The predefined tables (RFC 8878, 3.1.1.3.2.2).
var (
	zstdLiteralNorm = []int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1}
	zstdOffsetNorm  = []int16{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1}
	zstdMatchNorm   = []int16{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1}
)

func newZstdBlocks() *zstdBlocks {
	b := new(zstdBlocks)
	b.huff.Reuse = huff0.ReusePolicyNone
	for i, t := range []struct {
		norm        []int16
		log, maxLog uint
	}{{zstdLiteralNorm, 6, 9}, {zstdOffsetNorm, 5, 8}, {zstdMatchNorm, 6, 9}} {
		c := &b.code[i]
		c.maxLog = t.maxLog
		c.predefined.log = t.log
		copy(c.predefined.norm[:], t.norm)
		c.predefined.build(len(t.norm))
	}
	return b
}

// zstdExtra are the bits that follow codes of lengths from the first code on
// that has any, and zstdBase the lengths they start from.
var (
	zstdLiteralExtra = [36]uint8{16: 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	zstdMatchExtra   = [53]uint8{32: 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	zstdLiteralCodes = codesUpTo(zstdLiteralExtra[:], 64)
	zstdMatchCodes   = codesUpTo(zstdMatchExtra[:], 128)
)

// codesUpTo lists the codes of the values under n.
func codesUpTo(extra []uint8, n int) []uint8 {
	var codes []uint8
	for c := 0; len(codes) < n; c++ {
		for range 1 << extra[c] {
			codes = append(codes, uint8(c))
		}
	}
	return codes
}

func literalCode(n uint32) uint8 {
	if n < 64 {
		return zstdLiteralCodes[n]
	}
	return uint8(bits.Len32(n)) + 18
}

func matchCode(n uint32) uint8 {
	if n < 128 {
		return zstdMatchCodes[n]
	}
	return uint8(bits.Len32(n)) + 35
}

// append writes one block, whose content src the sequences and literals make.
// It reports whether the block was compressed, so that its offsets count.
func (b *zstdBlocks) append(dst, src []byte, last bool) (out []byte, compressed bool) {
	head := uint32(0)
	if last {
		head = 1
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0)
	if len(src) > 1 && string(src[1:]) == string(src[:len(src)-1]) {
		putBlockHeader(dst[start:], head|zstdRLE<<1, len(src))
		return append(dst, src[0]), false
	}
	dst = b.appendLiterals(dst)
	dst = b.appendSequences(dst)
	if n := len(dst) - start - 3; n < len(src) {
		putBlockHeader(dst[start:], head|zstdCompressed<<1, n)
		return dst, true
	}
	putBlockHeader(dst[start:], head|zstdRaw<<1, len(src))
	return append(dst[:start+3], src...), false
}

func putBlockHeader(dst []byte, flags uint32, n int) {
	h := flags | uint32(n)<<3
	dst[0], dst[1], dst[2] = byte(h), byte(h>>8), byte(h>>16)
}

// appendLiterals writes the literals section (RFC 8878, 3.1.1.3.1).
func (b *zstdBlocks) appendLiterals(dst []byte) []byte {
	n := len(b.literals)
	kind, body, single := uint64(zstdRaw), b.literals, false
	if n > 32 && !looksFlat(b.literals) {
		var out []byte
		var err error
		if single = n < 1024; single {
			out, _, err = huff0.Compress1X(b.literals, &b.huff)
		} else {
			out, _, err = huff0.Compress4X(b.literals, &b.huff)
		}
		switch {
		case err == huff0.ErrUseRLE:
			kind, body = zstdRLE, b.literals[:1]
		case err == nil && len(out)+2 < n:
			kind, body = zstdCompressed, out
		}
	}
	var h uint64
	var size int
	switch {
	case kind == zstdCompressed && n < 1<<10:
		h, size = kind|uint64(n)<<4|uint64(len(body))<<14, 3
		if !single {
			h |= 1 << 2
		}
	case kind == zstdCompressed && n < 1<<14:
		h, size = kind|2<<2|uint64(n)<<4|uint64(len(body))<<18, 4
	case kind == zstdCompressed:
		h, size = kind|3<<2|uint64(n)<<4|uint64(len(body))<<22, 5
	case n < 1<<5:
		h, size = kind|uint64(n)<<3, 1
	case n < 1<<12:
		h, size = kind|1<<2|uint64(n)<<4, 2
	default:
		h, size = kind|3<<2|uint64(n)<<4, 3
	}
	for range size {
		dst = append(dst, byte(h))
		h >>= 8
	}
	return append(dst, body...)
}

// looksFlat reports whether a sample of many literals has all bytes alike
// often, so that no code can be shorter than they are. Counting all of them,
// as huff0 does, takes a third of the time that noise takes to encode. The
// sample's chi-squared is 255 in the mean when they are, give or take 23; a
// distribution that is told from it so rarely gains less than 0.2 %.
func looksFlat(literals []byte) bool {
	const pieces, piece, limit = 4, 1 << 10, 320
	if len(literals) < 4*pieces*piece {
		return false
	}
	var counts [256]uint32
	for i := range pieces {
		for _, c := range literals[i*(len(literals)/pieces):][:piece] {
			counts[c]++
		}
	}
	const mean = pieces * piece / 256
	squares := uint32(0)
	for _, n := range counts {
		squares += (n - mean) * (n - mean)
	}
	return squares < limit*mean
}

// appendSequences writes the sequences section (RFC 8878, 3.1.1.3.2).
func (b *zstdBlocks) appendSequences(dst []byte) []byte {
	n := len(b.seqs)
	switch {
	case n < 128:
		dst = append(dst, byte(n))
	case n < 0x7f00:
		dst = append(dst, byte(n>>8)|128, byte(n))
	default:
		dst = append(dst, 255, byte(n-0x7f00), byte((n-0x7f00)>>8))
	}
	if n == 0 {
		return dst
	}
	b.count()
	modes := len(dst)
	dst = append(dst, 0)
	for i := range b.code {
		var mode byte
		dst, mode = b.code[i].choose(dst, n)
		dst[modes] |= mode << (6 - 2*i)
	}
	return b.appendBits(dst)
}

// count finds the codes of all sequences and how often each occurs.
func (b *zstdBlocks) count() {
	for i := range b.code {
		clear(b.code[i].counts[:])
		b.code[i].n = 0
	}
	b.codes = b.codes[:0]
	for _, s := range b.seqs {
		c := [3]uint8{literalCode(s.literals), uint8(bits.Len32(s.offset)) - 1, matchCode(s.match)}
		b.codes = append(b.codes, c)
		for i := range b.code {
			b.code[i].counts[c[i]]++
			b.code[i].n = max(b.code[i].n, int(c[i])+1)
		}
	}
}

// choose settles the table of a code and writes it.
func (c *zstdCode) choose(dst []byte, total int) ([]byte, byte) {
	counts := c.counts[:c.n]
	c.use = &c.own
	if counts[c.n-1] == total { // a table of one state, which takes no bits
		c.own.log = 0
		c.own.delta[c.n-1] = struct{ bits, find int32 }{}
		c.own.states[0] = 0
		return append(dst, byte(c.n-1)), zstdRLE
	}
	c.own.normalize(counts, total, c.maxLog)
	start := len(dst)
	dst = c.own.appendNorm(dst, c.n)
	if c.predefined.cost(counts) <= c.own.cost(counts)+float64(8*(len(dst)-start)) {
		c.use = &c.predefined
		return dst[:start], zstdPredefined
	}
	c.own.build(c.n)
	return dst, zstdTable
}

// appendBits writes the sequences, the last one first.
func (b *zstdBlocks) appendBits(dst []byte) []byte {
	w := bitWriter{out: dst}
	lit, off, mat := b.code[0].use, b.code[1].use, b.code[2].use
	var l, o, m uint32
	for i := len(b.seqs) - 1; i >= 0; i-- {
		s, c := &b.seqs[i], &b.codes[i]
		if i == len(b.seqs)-1 {
			l, o, m = lit.first(c[0]), off.first(c[1]), mat.first(c[2])
		} else {
			o = off.next(&w, o, c[1])
			m = mat.next(&w, m, c[2])
			l = lit.next(&w, l, c[0])
			w.flush()
		}
		w.add(uint64(s.literals), uint(zstdLiteralExtra[c[0]]))
		w.add(uint64(s.match), uint(zstdMatchExtra[c[2]]))
		w.flush()
		w.add(uint64(s.offset), uint(c[1]))
		w.flush()
	}
	w.add(uint64(m), mat.log)
	w.add(uint64(o), off.log)
	w.add(uint64(l), lit.log)
	w.add(1, 1)
	return w.close()
}
