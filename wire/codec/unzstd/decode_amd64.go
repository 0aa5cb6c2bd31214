//go:build !purego

package unzstd

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/cpu"
)

// useBMI2 says whether this machine runs the assembly; tests change it.
var useBMI2 = cpu.X86.HasBMI1 && cpu.X86.HasBMI2 && cpu.X86.HasSSSE3

// fast decodes and carries out sequences as long as they are ordinary. It
// reports whether the next one is decoded and only has to be carried out; else
// that has yet to be decoded.
func (l *loop) fast(dst, src, lit []byte) bool {
	if !useBMI2 {
		return l.sequencesGo(dst, src, lit)
	}
	if l.left < 64 || l.sequences < 2 || len(dst) == 0 {
		return false
	}
	return sequencesBMI2(l, &dst[0], &src[0], &lit[0])
}

// four decodes as many symbols of each stream as can be without looking where
// a stream or a quarter ends, and returns how many.
func (h *huffman) four(dst, src []byte, quarter int, s *fourStreams) int {
	if !useBMI2 {
		return h.fourGo(dst, src, quarter, s)
	}
	f := fourLoop{quarter: quarter, shift: 64 - h.maxBits}
	for i, left := range s.left {
		n := (left + 7) >> 3
		if n < 8 {
			return 0
		}
		f.at[i] = s.start[i] + n - 8
		f.acc[i] = (binary.LittleEndian.Uint64(src[f.at[i]:]) | 1) << (-left & 7)
	}
	for {
		f.rounds = (len(dst) - 3*quarter - f.out) / symbolsARound
		for i, at := range f.at {
			f.rounds = min(f.rounds, (at-s.start[i])/7)
		}
		if f.rounds < 1 {
			break
		}
		fourBMI2(&f, &h.table[0], &dst[0], &src[0])
	}
	for i := range s.left {
		s.left[i] = 8*(f.at[i]-s.start[i]+8) - bits.TrailingZeros64(f.acc[i])
	}
	return f.out
}

// symbolsARound is how many symbols of each stream are decoded between two
// loads of it: no more than 57 bits, of which seven bytes make room at most.
const symbolsARound = 5

// fourLoop is where the assembly stands. acc are the next bits of a stream at
// the top, with a one behind the last that was loaded.
type fourLoop struct {
	acc     [4]uint64
	at      [4]int // of the eight bytes that acc was loaded from
	out     int    // symbols written of each quarter
	quarter int
	shift   uint
	rounds  int
}

//go:noescape
func fourBMI2(f *fourLoop, table *uint16, dst, src *byte)

//go:noescape
func sequencesBMI2(l *loop, dst, src, lit *byte) bool
