package dir

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"

	"ndferry/array"
	"ndferry/store"
)

// A CELLS entry (spec/STORE.md §3), little-endian:
//
//	 0  8  cell
//	 8  8  offset in the shard
//	16  4  stored length
//	20  4  CRC32C of the stored bytes
//	24  4  flags: 1 the cell repeats another, 2 it is the fill value and has no bytes
//	28  4  with flag 1 the first cell with these bytes, else 0
//	32 32  leaf, with sha256 only
const (
	entrySize     = 32
	leafEntrySize = 64

	flagAlias = 1
	flagFill  = 2
)

// A table holds what is recorded of the cells of one array. It grows in pages, with the cells that come and not with those that a
// peer announces. A cell of codec none takes 4 bytes and two bits, since its place follows from its number; another one takes 16
// bytes; a leaf 32 more. A table is not safe for concurrent changes.
type table struct {
	n      int
	fixed  int  // bytes of every cell, which then lies at cell × fixed; 0: cells lie anywhere
	leaves bool // entries have leaves
	have   int  // cells recorded
	pages  []*tablePage
}

const pageCells = 1024

type tablePage struct {
	have, durable [pageCells / 64]uint64
	crc           []uint32
	offset        []int64  // nil with fixed
	length        []uint32 // nil with fixed
	leaf          [][32]byte
	source        []uint32 // 0: the cell's bytes are its own; else the cell they are of, plus 1. nil: all 0
}

// newTable returns the empty table of an array of n cells.
func newTable(n, fixed int, leaves bool) *table {
	return &table{n: n, fixed: fixed, leaves: leaves, pages: make([]*tablePage, (n+pageCells-1)/pageCells)}
}

// an entry is what is recorded of one cell.
type entry struct {
	cell   store.Cell
	offset int64
	length int
}

func (t *table) page(i int) *tablePage {
	p := t.pages[i/pageCells]
	if p == nil {
		n := min(pageCells, t.n-i/pageCells*pageCells)
		p = &tablePage{crc: make([]uint32, n)}
		if t.fixed == 0 {
			p.offset, p.length = make([]int64, n), make([]uint32, n)
		}
		if t.leaves {
			p.leaf = make([][32]byte, n)
		}
		t.pages[i/pageCells] = p
	}
	return p
}

// has reports whether cell i is recorded.
func (t *table) has(i int) bool {
	p := t.pages[i/pageCells]
	return p != nil && p.have[i%pageCells/64]>>(i%64)&1 == 1
}

// set records a cell, or records it anew.
func (t *table) set(e entry) {
	i := e.cell.Index
	if !t.has(i) {
		t.have++
	}
	p, k := t.page(i), i%pageCells
	p.have[k/64] |= 1 << (k % 64)
	p.crc[k] = e.cell.CRC
	if t.fixed == 0 {
		p.offset[k], p.length[k] = e.offset, uint32(e.length)
	}
	if t.leaves {
		p.leaf[k] = e.cell.Leaf
	}
	if p.source == nil && e.cell.Source >= 0 && e.cell.Source != i {
		p.source = make([]uint32, len(p.crc))
	}
	if p.source != nil {
		p.source[k] = 0
		if e.cell.Source >= 0 && e.cell.Source != i {
			p.source[k] = uint32(e.cell.Source) + 1
		}
	}
}

// get returns what is recorded of cell i, which must be there.
func (t *table) get(i int) entry {
	p, k := t.pages[i/pageCells], i%pageCells
	e := entry{cell: store.Cell{Index: i, CRC: p.crc[k]}, offset: int64(i) * int64(t.fixed), length: t.fixed}
	if t.fixed == 0 {
		e.offset, e.length = p.offset[k], int(p.length[k])
	}
	if t.leaves {
		e.cell.Leaf = p.leaf[k]
	}
	switch {
	case e.length == 0:
		e.cell.Source = store.Fill
	case p.source != nil && p.source[k] > 0:
		e.cell.Source = int(p.source[k] - 1)
	default:
		e.cell.Source = i
	}
	return e
}

// span is get for the shard's index.
func (t *table) span(i int) array.CellSpan {
	e := t.get(i)
	if e.length == 0 {
		return array.CellSpan{Offset: -1, Length: -1, Missing: true}
	}
	return array.CellSpan{Offset: e.offset, Length: int64(e.length)}
}

// pending yields the recorded cells that are not durable.
func (t *table) pending() iter.Seq[int] {
	return func(yield func(int) bool) {
		for n, p := range t.pages {
			if p == nil {
				continue
			}
			for w := range p.have {
				for left := p.have[w] &^ p.durable[w]; left != 0; left &= left - 1 {
					if !yield(n*pageCells + w*64 + bits.TrailingZeros64(left)) {
						return
					}
				}
			}
		}
	}
}

// settle makes all recorded cells durable.
func (t *table) settle() {
	for _, p := range t.pages {
		if p != nil {
			p.durable = p.have
		}
	}
}

// durable returns the durable cells as runs, in order.
func (t *table) durable() []store.Range {
	var runs []store.Range
	for n, p := range t.pages {
		if p == nil {
			continue
		}
		for w, word := range p.durable {
			for word != 0 {
				skip := bits.TrailingZeros64(word)
				first := n*pageCells + w*64 + skip
				count := bits.TrailingZeros64(^(word >> skip))
				if last := len(runs) - 1; last >= 0 && runs[last].First+runs[last].Count == first {
					runs[last].Count += count
				} else {
					runs = append(runs, store.Range{First: first, Count: count})
				}
				if skip+count == 64 {
					break
				}
				word = word >> (skip + count) << (skip + count)
			}
		}
	}
	return runs
}

// stored returns the sum of the lengths of the recorded cells.
func (t *table) stored() int64 {
	if t.fixed > 0 {
		return int64(t.have) * int64(t.fixed)
	}
	var sum int64
	for _, p := range t.pages {
		if p != nil {
			for k, n := range p.length {
				if p.source == nil || p.source[k] == 0 {
					sum += int64(n)
				}
			}
		}
	}
	return sum
}

// tail returns the offset behind the last recorded cell.
func (t *table) tail() int64 {
	var end int64
	for i := range t.n {
		if t.has(i) {
			e := t.get(i)
			end = max(end, e.offset+int64(e.length))
		}
	}
	return end
}

func (t *table) entrySize() int {
	if t.leaves {
		return leafEntrySize
	}
	return entrySize
}

// appendEntry appends the CELLS entry of cell i.
func (t *table) appendEntry(dst []byte, i int) []byte {
	e := t.get(i)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(i))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.offset))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(e.length))
	dst = binary.LittleEndian.AppendUint32(dst, e.cell.CRC)
	switch e.cell.Source {
	case i:
		dst = binary.LittleEndian.AppendUint64(dst, 0)
	case store.Fill:
		dst = binary.LittleEndian.AppendUint64(dst, flagFill)
	default:
		dst = binary.LittleEndian.AppendUint32(dst, flagAlias)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(e.cell.Source))
	}
	if t.leaves {
		dst = append(dst, e.cell.Leaf[:]...)
	}
	return dst
}

// parseSource reads flags and source of an entry whose other members are known.
func (t *table) parseSource(e *entry, flags []byte) bool {
	source := int(binary.LittleEndian.Uint32(flags[4:]))
	switch binary.LittleEndian.Uint32(flags) {
	case 0:
		e.cell.Source = e.cell.Index
		return source == 0
	case flagFill:
		e.cell.Source = store.Fill
		return source == 0 && t.fixed == 0 && e.offset == 0 && e.cell.CRC == 0
	case flagAlias:
		if e.cell.Source = source; t.fixed > 0 || source >= t.n || source == e.cell.Index || !t.has(source) {
			return false
		}
		of := t.get(source)
		return of.cell.Source == source && of.offset == e.offset && of.length == e.length && of.cell.CRC == e.cell.CRC
	}
	return false
}

// parseCells records the entries of a CELLS record. maxLength bounds a cell's stored length.
func (t *table) parseCells(body []byte, maxLength int) error {
	size := t.entrySize()
	if len(body)%size != 0 {
		return fmt.Errorf("CELLS record of %d bytes, entries have %d", len(body), size)
	}
	for ; len(body) > 0; body = body[size:] {
		i, off := binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:])
		length := binary.LittleEndian.Uint32(body[16:])
		e := entry{cell: store.Cell{Index: int(i), CRC: binary.LittleEndian.Uint32(body[20:])}, offset: int64(off), length: int(length)}
		switch {
		case i >= uint64(t.n):
			return fmt.Errorf("CELLS record names cell %d of %d", i, t.n)
		case !t.parseSource(&e, body[24:]):
			return fmt.Errorf("CELLS record has unknown flags, or a source that is not there, for cell %d", i)
		case t.fixed > 0 && (off != i*uint64(t.fixed) || length != uint32(t.fixed)):
			return fmt.Errorf("CELLS record places cell %d at %d+%d", i, off, length)
		case off > array.MaxBytes || int(length) > maxLength || (length == 0) != (e.cell.Source == store.Fill):
			return fmt.Errorf("CELLS record places cell %d at %d+%d", i, off, length)
		}
		if t.leaves {
			copy(e.cell.Leaf[:], body[entrySize:])
		}
		t.set(e)
	}
	return nil
}
