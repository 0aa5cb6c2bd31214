package codec

import (
	"math"
	"math/bits"
)

// fseMaxSymbols is more than any of the codes of a sequence has.
const fseMaxSymbols = 53

// fseCoder encodes one of the three codes of zstd's sequences with a tabled
// asymmetric numeral system (RFC 8878, 4.1). Its shape is FSE's: a table of
// next states, and for each symbol what to add to find its part of the table.
type fseCoder struct {
	log     uint
	norm    [fseMaxSymbols]int16 // share of the table; -1 is less than one
	delta   [fseMaxSymbols]struct{ bits, find int32 }
	states  [1 << 9]uint16
	symbols [1 << 9]uint8
}

// build makes the tables from norm.
func (c *fseCoder) build(n int) {
	size := 1 << c.log
	var start [fseMaxSymbols + 1]int
	high := size - 1
	for s, p := range c.norm[:n] {
		if p == -1 {
			start[s+1] = start[s] + 1
			c.symbols[high] = uint8(s)
			high--
		} else {
			start[s+1] = start[s] + int(p)
		}
	}
	at, step := 0, size>>1+size>>3+3
	for s, p := range c.norm[:n] {
		for range p {
			c.symbols[at] = uint8(s)
			for at = (at + step) & (size - 1); at > high; {
				at = (at + step) & (size - 1)
			}
		}
	}
	for u, s := range c.symbols[:size] {
		c.states[start[s]] = uint16(size + u)
		start[s]++
	}
	total := int32(0)
	for s, p := range c.norm[:n] {
		d := &c.delta[s]
		switch {
		case p == 0:
		case p == -1 || p == 1:
			d.bits, d.find = int32(c.log<<16)-int32(size), total-1
			total++
		default:
			out := c.log - uint(bits.Len16(uint16(p-1))-1)
			d.bits, d.find = int32(out<<16)-int32(p)<<out, total-int32(p)
			total += int32(p)
		}
	}
}

// first returns the state that encodes symbol s last of all.
func (c *fseCoder) first(s uint8) uint32 {
	d := c.delta[s]
	out := uint32(d.bits+1<<15) >> 16
	return uint32(c.states[int32((out<<16-uint32(d.bits))>>out)+d.find])
}

// next encodes s: it writes the low bits of the state and returns the next.
func (c *fseCoder) next(w *bitWriter, state uint32, s uint8) uint32 {
	d := &c.delta[s]
	out := (state + uint32(d.bits)) >> 16
	w.add(uint64(state), uint(out))
	return uint32(c.states[int32(state>>out)+d.find])
}

// normalize shares the table among the symbols by their counts.
func (c *fseCoder) normalize(counts []int, total int, maxLog uint) {
	used := 0
	for _, n := range counts {
		if n > 0 {
			used++
		}
	}
	c.log = uint(max(5, bits.Len(uint(total-1))-2))
	c.log = min(max(c.log, uint(bits.Len(uint(used)))+1), maxLog)
	size, left, largest := 1<<c.log, 1<<c.log, 0
	for s, n := range counts {
		p := (n*size + total/2) / total
		if n > 0 && p == 0 {
			p = 1
		}
		c.norm[s] = int16(p)
		left -= p
		if p > int(c.norm[largest]) {
			largest = s
		}
	}
	for left < 0 && int(c.norm[largest])+left < 2 {
		// Too many symbols were rounded up: take one from each large share.
		for s := range counts {
			if c.norm[s] > 1 && left < 0 {
				c.norm[s]--
				left++
			}
		}
	}
	c.norm[largest] += int16(left)
}

// appendNorm writes the description of the table (RFC 8878, 4.1.1).
func (c *fseCoder) appendNorm(dst []byte, n int) []byte {
	var w bitWriter
	w.out = dst
	w.add(uint64(c.log-5), 4)
	left, threshold, width := 1<<c.log+1, 1<<c.log, c.log+1
	zero := false
	for s := 0; s < n && left > 1; {
		if zero {
			start := s
			for s < n && c.norm[s] == 0 {
				s++
			}
			if s == n {
				break
			}
			for ; s-start >= 3; start += 3 {
				w.add(3, 2)
				w.flush()
			}
			w.add(uint64(s-start), 2)
		}
		p := int(c.norm[s])
		s++
		most := 2*threshold - 1 - left
		left -= max(p, -p)
		v := p + 1
		if v >= threshold {
			v += most
		}
		k := width
		if v < most {
			k--
		}
		w.add(uint64(v), k)
		w.flush()
		zero = v == 1
		for left < threshold {
			width--
			threshold >>= 1
		}
	}
	return w.close()
}

// cost is the bits that symbols with these counts take with this table,
// infinite if it lacks one.
func (c *fseCoder) cost(counts []int) float64 {
	total := 0.0
	for s, n := range counts {
		switch p := c.norm[s]; {
		case n == 0:
		case p == 0:
			return math.Inf(1)
		default:
			total += float64(n) * (float64(c.log) - math.Log2(math.Abs(float64(p))))
		}
	}
	return total
}

// bitWriter writes bits from the low end of each byte on.
type bitWriter struct {
	out  []byte
	acc  uint64
	held uint
}

// add writes the low n bits of v; with what is held no more than 64.
func (w *bitWriter) add(v uint64, n uint) {
	w.acc |= v & (1<<n - 1) << w.held
	w.held += n
}

// flush moves whole bytes out.
func (w *bitWriter) flush() {
	n := w.held / 8
	at := len(w.out)
	w.out = append(w.out, 0, 0, 0, 0, 0, 0, 0, 0)
	putLE64(w.out[at:], w.acc)
	w.out = w.out[:at+int(n)]
	w.acc >>= 8 * n
	w.held -= 8 * n
}

// close pads the last byte with zeros and returns the bytes.
func (w *bitWriter) close() []byte {
	w.held = (w.held + 7) &^ 7
	w.flush()
	return w.out
}
