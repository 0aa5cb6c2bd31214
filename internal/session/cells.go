package session

import (
	"ndferry/array"
	"ndferry/wire"
)

// cells are those of an upload: which came, and which are still wanted.
type cells struct {
	grid    array.Grid
	size    int  // raw bytes of one
	packed  bool // they come in containers
	got     bitmap
	spare   bitmap     // durable ones that ACCEPT had no room for: one that comes is thrown away
	missing int        // that are not in got
	leaves  [][32]byte // with sha256
}

// maxTracked bounds what one PUT makes the server remember: 2^24 cells, 64 TiB at the default size.
const maxTracked = 1 << 24

func newCells(grid array.Grid, size int, packed, hashed bool) cells {
	n := grid.Len()
	c := cells{grid: grid, size: size, packed: packed, got: newBitmap(n), missing: n}
	if hashed {
		c.leaves = make([][32]byte, n)
	}
	return c
}

// take notes that a cell came, which had not.
func (c *cells) take(i int) {
	c.got.set(i)
	c.missing--
}

// lose notes that a cell that came is wanted again.
func (c *cells) lose(i int) {
	c.got.clear(i)
	c.missing++
}

// refuses says why there is no place for a chunk, or nil.
func (c *cells) refuses(h wire.Header) *wire.Failure {
	n := uint64(c.grid.Len())
	var f *wire.Failure
	switch {
	case h.Index >= n:
		f = wire.Failf(wire.CodeInvalid, "cell %d of an array of %d cells", h.Index, n)
	case int(h.Raw) != c.size:
		f = wire.Failf(wire.CodeInvalid, "cell %d has %d bytes, the cells of this array have %d", h.Index, h.Raw, c.size)
	case !c.packed && h.Length != h.Raw:
		f = wire.Failf(wire.CodeInvalid, "cell %d has a payload of %d bytes, codec none makes it %d", h.Index, h.Length, h.Raw)
	case c.packed && (h.Length < wire.MinBlosc || h.Length > h.Raw+wire.MinBlosc):
		f = wire.Failf(wire.CodeInvalid, "cell %d has a payload of %d bytes, codec blosc makes it %d to %d", h.Index, h.Length, wire.MinBlosc, h.Raw+wire.MinBlosc)
	case c.got.has(int(h.Index)):
		f = wire.Failf(wire.CodeInvalid, "cell %d came twice", h.Index)
	}
	if f != nil {
		cell := h.Index
		f.Cell = &cell
	}
	return f
}

// takeUp marks the cells that are durable already, and returns what the client is told of them.
func (c *cells) takeUp(r Result) wire.AcceptMessage {
	m := wire.AcceptMessage{Durable: [][2]uint64{}}
	n := 0
	for _, d := range r.Durable {
		told := len(m.Durable) < wire.RangesSent
		if told {
			m.Durable = append(m.Durable, [2]uint64{uint64(d.First), uint64(d.Count)})
		} else if c.spare == nil {
			c.spare = newBitmap(c.grid.Len())
		}
		for i := d.First; i < d.First+d.Count; i++ {
			c.take(i)
			if !told {
				c.spare.set(i)
			}
			if c.leaves != nil {
				c.leaves[i] = r.Leaves[n]
			}
			n++
		}
	}
	return m
}

// takeSpare tells that a chunk is of a durable cell that the client was not told of.
func (c *cells) takeSpare(h wire.Header) bool {
	if c.spare == nil || h.Index >= uint64(c.grid.Len()) || !c.spare.has(int(h.Index)) {
		return false
	}
	c.spare.clear(int(h.Index))
	return true
}

// bitmap is a set of cells.
type bitmap []uint64

func newBitmap(n int) bitmap    { return make(bitmap, (n+63)/64) }
func (b bitmap) has(i int) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b bitmap) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitmap) clear(i int)    { b[i/64] &^= 1 << (i % 64) }
