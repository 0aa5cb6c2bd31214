package unzstd

import "fmt"

// Modes of a table of sequences (RFC 8878, 3.1.1.3.2.1).
const (
	modePredefined = iota
	modeRLE
	modeTable
	modeRepeat
)

// tables are the decoding tables of one frame's sequences. The assembly knows
// this layout.
type tables struct {
	literal [1 << 9]entry
	match   [1 << 9]entry
	offset  [1 << 8]entry
}

// loop is where the decoding of a block's sequences stands. The assembly knows
// this layout.
type loop struct {
	tables
	literalNow  entry     // the state that the next sequence is in
	matchNow    entry     // of each of the codes
	offsetNow   entry     //
	left        int       // bits not read
	sequences   int       // not decoded
	out, outEnd int       // written, and at most, in dst
	lit, litEnd int       // used, and all, of the literals
	base        int       // start of the frame in dst
	wild        int       // end of dst for copies that write too much
	recent      [4]uint32 // offsets, the latest first; the last is not used
	literalLen  int       // of a sequence that is decoded and not carried out
	matchLen    int
	logs        [3]uint // of the tables, 1 more than it; 0 while there is none
}

// reset forgets what blocks hand on to the next block of a frame.
func (l *loop) reset(base int) {
	l.base = base
	l.recent = [4]uint32{1, 4, 8}
	l.logs = [3]uint{}
}

// readSequencesHead reads how many sequences there are and the bytes that say so.
func readSequencesHead(src []byte) (sequences, size int, err error) {
	switch {
	case len(src) > 0 && src[0] < 128:
		return int(src[0]), 1, nil
	case len(src) > 1 && src[0] < 255:
		return int(src[0]-128)<<8 + int(src[1]), 2, nil
	case len(src) > 2:
		return int(src[1]) + int(src[2])<<8 + 0x7f00, 3, nil
	}
	return 0, 0, fmt.Errorf("%w: no sequences section", ErrCorrupt)
}

// readTables reads the tables of a block's sequences and returns their size.
func (l *loop) readTables(src []byte) (int, error) {
	if len(src) == 0 || src[0]&3 != 0 {
		return 0, fmt.Errorf("%w: modes of sequences", ErrCorrupt)
	}
	modes, at := src[0], 1
	for i, t := range []struct {
		*code
		table      []entry
		predefined []entry
	}{
		{&literalCode, l.literal[:], literalDefault},
		{&offsetCode, l.offset[:], offsetDefault},
		{&matchCode, l.match[:], matchDefault},
	} {
		switch modes >> (6 - 2*i) & 3 {
		case modePredefined:
			copy(t.table, t.predefined)
			l.logs[i] = t.defaultLog + 1
		case modeRLE:
			if at >= len(src) || int(src[at]) >= len(t.extra) {
				return 0, fmt.Errorf("%w: single %s", ErrCorrupt, t.name)
			}
			s := src[at]
			at++
			t.table[0] = t.packed[s]
			l.logs[i] = 1
		case modeTable:
			var norm [maxSymbols]int16
			n, log, size, err := readNorm(norm[:len(t.extra)], src[at:], t.maxLog)
			if err != nil {
				return 0, fmt.Errorf("table of %ss: %w", t.name, err)
			}
			at += size
			t.build(t.table[:1<<log], norm[:n], log)
			l.logs[i] = log + 1
		default:
			if l.logs[i] == 0 {
				return 0, fmt.Errorf("%w: %s table without one before", ErrCorrupt, t.name)
			}
		}
	}
	return at, nil
}

// run decodes n sequences from the bit stream src and carries them out, with
// literals from lit, whose end is l.litEnd. It writes dst from l.out on up to
// l.outEnd and may scribble on dst up to l.wild.
func (l *loop) run(dst, src, lit []byte, n int) error {
	in, err := newBackward(src)
	if err != nil {
		return err
	}
	l.literalNow = l.literal[in.take(l.logs[0]-1)&(1<<9-1)]
	l.offsetNow = l.offset[in.take(l.logs[1]-1)&(1<<8-1)]
	l.matchNow = l.match[in.take(l.logs[2]-1)&(1<<9-1)]
	l.left, l.sequences = in.left, n
	for l.sequences > 0 {
		if !l.fast(dst, src, lit) {
			l.decode(src)
		}
		if err := l.execute(dst, lit); err != nil {
			return err
		}
	}
	if l.left != 0 {
		return fmt.Errorf("%w: sequences with %d bits left", ErrCorrupt, l.left)
	}
	n = l.litEnd - l.lit
	if n > l.outEnd-l.out {
		return fmt.Errorf("%w: %d literals for %d bytes", ErrCorrupt, n, l.outEnd-l.out)
	}
	copy(dst[l.out:], lit[l.lit:l.litEnd])
	l.out += n
	return nil
}

// decode decodes one sequence.
func (l *loop) decode(src []byte) {
	in := backward{src, l.left}
	le, me, oe := l.literalNow, l.matchNow, l.offsetNow
	offset := oe.value() + in.take(oe.extra())
	l.matchLen = int(me.value() + in.take(me.extra()))
	l.literalLen = int(le.value() + in.take(le.extra()))
	if l.sequences--; l.sequences > 0 { // the last one has no next state
		l.literalNow = l.literal[(le.next()+in.take(le.bits()))&(1<<9-1)]
		l.matchNow = l.match[(me.next()+in.take(me.bits()))&(1<<9-1)]
		l.offsetNow = l.offset[(oe.next()+in.take(oe.bits()))&(1<<8-1)]
	}
	l.left = in.left
	l.useOffset(offset)
}

// execute carries out the sequence that was decoded last.
func (l *loop) execute(dst, lit []byte) error {
	n, dist := l.literalLen+l.matchLen, uint64(l.recent[0])
	from := l.out + l.literalLen
	switch {
	case l.left < 0:
		return fmt.Errorf("%w: sequences are cut", ErrCorrupt)
	case l.literalLen > l.litEnd-l.lit:
		return fmt.Errorf("%w: sequence of %d literals, %d are left", ErrCorrupt, l.literalLen, l.litEnd-l.lit)
	case n > l.outEnd-l.out:
		return fmt.Errorf("%w: sequence of %d bytes where %d fit", ErrCorrupt, n, l.outEnd-l.out)
	case dist-1 >= uint64(from-l.base):
		return fmt.Errorf("%w: match %d bytes back, %d bytes behind the start", ErrCorrupt, dist, from-l.base)
	}
	copy(dst[l.out:], lit[l.lit:l.lit+l.literalLen])
	l.lit += l.literalLen
	l.out += n
	repeat(dst[from-int(dist):l.out], int(dist))
	return nil
}

// useOffset makes the distance that an offset says the latest (RFC 8878,
// 3.1.1.5). One of 0 is an error of the stream.
func (l *loop) useOffset(offset uint64) {
	r := &l.recent
	if offset > 3 {
		r[0], r[1], r[2] = uint32(offset-3), r[0], r[1]
		return
	}
	if l.literalLen == 0 {
		offset++
	}
	switch offset {
	case 1:
	case 2:
		r[0], r[1] = r[1], r[0]
	case 3:
		r[0], r[1], r[2] = r[2], r[0], r[1]
	default:
		r[0], r[1], r[2] = r[0]-1, r[0], r[1]
	}
}

// repeat fills b from what its first n bytes are.
func repeat(b []byte, n int) {
	for n < len(b) {
		n += copy(b[n:], b[:n])
	}
}
