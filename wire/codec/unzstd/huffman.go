package unzstd

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// huffman is a table of literals: for each maxBits next bits the length of the
// code that they start with, in the low byte, and its symbol.
type huffman struct {
	table   [1 << maxWeight]uint16
	maxBits uint // 0 while there is no table
}

// read reads the description of a tree (RFC 8878, 4.2.1) and returns its size.
func (h *huffman) read(src []byte) (int, error) {
	h.maxBits = 0
	if len(src) == 0 {
		return 0, fmt.Errorf("%w: no Huffman tree", ErrCorrupt)
	}
	var weights [256]uint8
	n, size := 0, 1
	if head := int(src[0]); head >= 128 {
		n = head - 127
		size += (n + 1) / 2
		if size > len(src) {
			return 0, fmt.Errorf("%w: Huffman tree of %d bytes in %d", ErrCorrupt, size, len(src))
		}
		for i := range n {
			weights[i] = src[1+i/2] >> (4 &^ (i << 2)) & 15
		}
	} else {
		size += head
		if size > len(src) {
			return 0, fmt.Errorf("%w: Huffman tree of %d bytes in %d", ErrCorrupt, size, len(src))
		}
		var err error
		if n, err = readWeights(weights[:255], src[1:size]); err != nil {
			return 0, err
		}
	}
	return size, h.build(&weights, n)
}

// readWeights decodes weights that two states of one table take turns in, as
// long as there are bits (RFC 8878, 4.2.1.2).
func readWeights(weights []uint8, src []byte) (int, error) {
	var norm [maxWeight + 2]int16
	symbols, log, size, err := readNorm(norm[:], src, maxWeightLog)
	if err != nil {
		return 0, err
	}
	in, err := newBackward(src[size:])
	if err != nil {
		return 0, err
	}
	var symbol [1 << maxWeightLog]uint8
	var next [maxWeight + 2]uint16
	spread(symbol[:1<<log], norm[:symbols], next[:])
	var add [1 << maxWeightLog]uint8  // bits
	var base [1 << maxWeightLog]uint8 // next state
	for i, s := range symbol[:1<<log] {
		x := next[s]
		next[s]++
		n := log - uint(bits.Len16(x)-1)
		add[i], base[i] = uint8(n), uint8(x<<n-1<<log)
	}
	states := [2]uint64{in.take(log), in.take(log)}
	if in.left < 0 {
		return 0, fmt.Errorf("%w: Huffman weights are cut", ErrCorrupt)
	}
	for n := 0; n < len(weights)-1; n++ {
		s := &states[n&1]
		weights[n] = symbol[*s&63]
		bits := uint(add[*s&63])
		*s = uint64(base[*s&63]) + in.take(bits)
		if in.left < 0 {
			weights[n+1] = symbol[states[n&1^1]&63]
			return n + 2, nil
		}
	}
	return 0, fmt.Errorf("%w: too many Huffman weights", ErrCorrupt)
}

// build makes the table from n weights; that of the last symbol follows.
func (h *huffman) build(weights *[256]uint8, n int) error {
	var count [maxWeight + 2]int
	sum := 0
	for _, w := range weights[:n] {
		if w > maxWeight {
			return fmt.Errorf("%w: Huffman weight %d", ErrCorrupt, w)
		}
		count[w]++
		sum += 1 << w >> 1
	}
	maxBits := uint(bits.Len(uint(sum)))
	last := 1<<maxBits - sum
	if sum == 0 || maxBits > maxWeight || last&(last-1) != 0 {
		return fmt.Errorf("%w: Huffman weights do not add up", ErrCorrupt)
	}
	w := bits.Len(uint(last))
	weights[n] = uint8(w)
	count[w]++
	if count[1] < 2 {
		return fmt.Errorf("%w: Huffman tree without a longest code", ErrCorrupt)
	}
	var start [maxWeight + 2]int
	at := 0
	for w := 1; w <= int(maxBits); w++ {
		start[w] = at
		at += count[w] << (w - 1)
	}
	for s, w := range weights[:n+1] {
		if w == 0 {
			continue
		}
		v := uint16(maxBits) + 1 - uint16(w) | uint16(s)<<8
		run := h.table[start[w]:][:1<<(w-1)]
		start[w] += len(run)
		if len(run) < 4 {
			for i := range run {
				run[i] = v
			}
			continue
		}
		for i := 0; i+4 <= len(run); i += 4 {
			four := run[i : i+4 : i+4]
			four[0], four[1], four[2], four[3] = v, v, v, v
		}
	}
	h.maxBits = maxBits
	return nil
}

// decode1 decodes one stream into all of dst.
func (h *huffman) decode1(dst, src []byte) error {
	in, err := newBackward(src)
	if err != nil {
		return err
	}
	return h.finish(dst, src, in.left)
}

// decode4 decodes the four streams of src, whose sizes are in its first bytes,
// into quarters of dst.
func (h *huffman) decode4(dst, src []byte) error {
	quarter := (len(dst) + 3) / 4
	if len(src) < 6 || len(dst) < 3*quarter {
		return fmt.Errorf("%w: %d literals in four streams of %d bytes", ErrCorrupt, len(dst), len(src))
	}
	var ends [4]int
	at := 6
	for i := range 3 {
		at += int(binary.LittleEndian.Uint16(src[2*i:]))
		ends[i] = at
	}
	ends[3] = len(src)
	if at > len(src) {
		return fmt.Errorf("%w: streams of %d bytes in %d", ErrCorrupt, at, len(src))
	}
	var state fourStreams
	start := 6
	for i, end := range ends {
		in, err := newBackward(src[start:end])
		if err != nil {
			return err
		}
		state.start[i], state.left[i] = start, in.left
		start = end
	}
	done := h.four(dst, src, quarter, &state)
	for i, left := range state.left {
		end := min((i+1)*quarter, len(dst))
		if err := h.finish(dst[i*quarter+done:end], src[state.start[i]:ends[i]], left); err != nil {
			return err
		}
	}
	return nil
}

// fourStreams are four streams that are decoded in step.
type fourStreams struct {
	start [4]int // of each, in the source
	left  [4]int // bits of each that were not read
}

// finish decodes the rest of one stream, left bits, into all of dst.
func (h *huffman) finish(dst, src []byte, left int) error {
	in := backward{src, left}
	shift := (64 - h.maxBits) & 63
	for len(dst) >= 4 && in.left > 64 {
		v := in.peek()
		a := h.table[v>>shift&(1<<maxWeight-1)]
		v <<= a & 63
		b := h.table[v>>shift&(1<<maxWeight-1)]
		v <<= b & 63
		c := h.table[v>>shift&(1<<maxWeight-1)]
		v <<= c & 63
		d := h.table[v>>shift&(1<<maxWeight-1)]
		in.left -= int(a&63 + b&63 + c&63 + d&63)
		dst[0], dst[1], dst[2], dst[3] = byte(a>>8), byte(b>>8), byte(c>>8), byte(d>>8)
		dst = dst[4:]
	}
	for i := range dst {
		e := h.table[in.peek()>>shift&(1<<maxWeight-1)]
		in.left -= int(e & 63)
		dst[i] = byte(e >> 8)
	}
	if in.left != 0 {
		return fmt.Errorf("%w: Huffman stream with %d bits left", ErrCorrupt, in.left)
	}
	return nil
}
