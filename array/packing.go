package array

import "fmt"

// Packing converts elements between the layout that NumPy has and the one in
// which they are stored (DType.Stored). The zero value copies nothing; it is
// immutable and may be shared.
type Packing struct {
	size   int // bytes of an element in NumPy's layout
	stored int // bytes of a stored one
	moves  []move
}

// move is a run of bytes of an element. swap is the number of bytes of each
// number in it that change their order, 0 or 1 for none.
type move struct{ from, to, n, swap int }

// Packing returns the conversion of elements of d.
func (d DType) Packing() Packing {
	s := d.Stored()
	p := Packing{size: d.ItemSize(), stored: s.ItemSize()}
	switch {
	case d.size == 0:
	case s.kind == Struct, d.kind == Complex:
		p.add(d, s, 0, 0)
	default:
		p.moves = []move{{0, 0, p.size, 0}}
	}
	return p
}

// Identity reports whether stored elements are what NumPy has in memory.
func (p Packing) Identity() bool {
	return p.size == p.stored && len(p.moves) == 1 && p.moves[0] == move{0, 0, p.size, 0}
}

func (p *Packing) add(d, s DType, from, to int) {
	if d.kind == Struct {
		for i, f := range d.more.fields {
			g := s.more.fields[i]
			p.add(f.Type, g.Type, from+f.Offset, to+g.Offset)
		}
		return
	}
	m := move{from, to, int(d.size), 0}
	if d.big != s.big {
		m.swap = int(d.size)
		switch d.kind {
		case Complex:
			m.swap /= 2
		case Text:
			m.swap = 4
		}
	}
	if last := len(p.moves) - 1; m.swap == 0 && last >= 0 {
		if l := &p.moves[last]; l.swap == 0 && l.from+l.n == m.from && l.to+l.n == m.to {
			l.n += m.n
			return
		}
	}
	p.moves = append(p.moves, m)
}

// Pack writes the elements of src, in NumPy's layout, to dst as they are
// stored. It panics when the lengths are not those of equally many elements.
func (p Packing) Pack(dst, src []byte) {
	for i := range p.count(src, dst) {
		p.element(dst[i*p.stored:], src[i*p.size:], false)
	}
}

// Unpack is the inverse of Pack. Bytes between the fields become zero.
func (p Packing) Unpack(dst, src []byte) {
	clear(dst)
	for i := range p.count(dst, src) {
		p.element(dst[i*p.size:], src[i*p.stored:], true)
	}
}

func (p Packing) count(loose, stored []byte) int {
	n := len(stored) / max(p.stored, 1)
	if len(loose) != n*p.size || len(stored) != n*p.stored {
		panic(fmt.Sprintf("array: packing: %d bytes for %d", len(loose), len(stored)))
	}
	if p.size == 0 {
		return 0
	}
	return n
}

func (p Packing) element(dst, src []byte, back bool) {
	for _, m := range p.moves {
		from, to := m.from, m.to
		if back {
			from, to = to, from
		}
		if m.swap < 2 {
			copy(dst[to:to+m.n], src[from:from+m.n])
			continue
		}
		for at := 0; at < m.n; at += m.swap {
			for i := range m.swap {
				dst[to+at+i] = src[from+at+m.swap-1-i]
			}
		}
	}
}
