package unzstd

import (
	"encoding/binary"
)

// sequencesGo is the twin of sequencesBMI2: it decodes and carries out
// sequences as long as they are ordinary, and reports whether the next one is
// decoded and only has to be carried out.
func (l *loop) sequencesGo(dst, src, lit []byte) bool {
	const room = 32 // that copies may write too much
	le, me, oe := l.literalNow, l.matchNow, l.offsetNow
	left, out, at, sequences := l.left, l.out, l.lit, l.sequences
	r0, r1, r2 := l.recent[0], l.recent[1], l.recent[2]
	outEnd, extras := min(l.outEnd, l.wild-room), 56+3-l.logs[0]-l.logs[1]-l.logs[2]
	odd := false
	for sequences > 1 && left >= 64 {
		if (le.extra()+me.extra()+oe.extra())&0xff > extras {
			break
		}
		v := binary.LittleEndian.Uint64(src[(left+7)>>3-8:]) << (-left & 7)
		n := oe.extra() & 63
		offset := uint32(oe.value()) + uint32(v>>1>>(63-n&63))
		v <<= n
		n = me.extra() & 63
		match := int(me.value()) + int(v>>1>>(63-n&63))
		v <<= n
		n = le.extra() & 63
		literals := int(le.value()) + int(v>>1>>(63-n&63))
		v <<= n
		left -= int(le.extra() + me.extra() + oe.extra() + le.bits() + me.bits() + oe.bits())
		n = le.bits() & 63
		le = l.literal[(le.next()+v>>1>>(63-n&63))&(1<<9-1)]
		v <<= n
		n = me.bits() & 63
		me = l.match[(me.next()+v>>1>>(63-n&63))&(1<<9-1)]
		v <<= n
		n = oe.bits() & 63
		oe = l.offset[(oe.next()+v>>1>>(63-n&63))&(1<<8-1)]
		sequences--

		if offset > 3 {
			r0, r1, r2 = offset-3, r0, r1
		} else {
			if literals == 0 {
				offset++
			}
			switch offset {
			case 1:
			case 2:
				r0, r1 = r1, r0
			case 3:
				r0, r1, r2 = r2, r0, r1
			default:
				r0, r1, r2 = r0-1, r0, r1
			}
		}
		dist, from := int(r0), out+literals
		if from+match > outEnd || literals > l.litEnd-at || uint(dist-1) >= uint(from-l.base) {
			l.literalLen, l.matchLen, odd = literals, match, true
			break
		}
		if literals <= 16 {
			*(*[16]byte)(dst[out:]) = *(*[16]byte)(lit[at:])
		} else {
			copy(dst[out:from], lit[at:at+literals])
		}
		at += literals
		out = from + match
		switch {
		case dist >= 16 && match <= 32:
			*(*[16]byte)(dst[from:]) = *(*[16]byte)(dst[from-dist:])
			*(*[16]byte)(dst[from+16:]) = *(*[16]byte)(dst[from-dist+16:])
		case dist >= match:
			copy(dst[from:out], dst[from-dist:])
		default:
			repeat(dst[from-dist:out], dist)
		}
	}
	l.literalNow, l.matchNow, l.offsetNow = le, me, oe
	l.left, l.out, l.lit, l.sequences = left, out, at, sequences
	l.recent = [4]uint32{r0, r1, r2}
	return odd
}

// fourGo is the twin of fourBMI2.
func (h *huffman) fourGo(dst, src []byte, quarter int, s *fourStreams) int {
	const symbols, mask = 5, 1<<maxWeight - 1
	shift := (64 - h.maxBits) & 63
	last := len(dst) - 3*quarter
	done := 0
	for done+symbols <= last {
		for _, left := range s.left {
			if left < 64 {
				return done
			}
		}
		for i := range s.left {
			left := s.left[i]
			v := binary.LittleEndian.Uint64(src[s.start[i]+(left+7)>>3-8:]) << (-left & 7)
			a := h.table[v>>shift&mask]
			v <<= a & 63
			b := h.table[v>>shift&mask]
			v <<= b & 63
			c := h.table[v>>shift&mask]
			v <<= c & 63
			d := h.table[v>>shift&mask]
			v <<= d & 63
			e := h.table[v>>shift&mask]
			s.left[i] = left - int(a&63+b&63+c&63+d&63+e&63)
			to := dst[i*quarter+done:][:symbols]
			to[0], to[1], to[2], to[3], to[4] = byte(a>>8), byte(b>>8), byte(c>>8), byte(d>>8), byte(e>>8)
		}
		done += symbols
	}
	return done
}
