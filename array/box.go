package array

// TouchedBy returns the cells that hold elements of the region, as runs of
// consecutive numbers [first, count], in order. The region must lie within the
// array (Region.Check).
func (g Grid) TouchedBy(r Region) [][2]uint64 {
	if r.Elements() == 0 || g.cells == 0 {
		return nil
	}
	ndim := len(g.shape)
	var first, last, at [MaxDims]int // grid coordinates in stored order
	for k, axis := range g.order {
		first[k] = r.Start[axis] / g.cell[axis]
		last[k] = (r.Start[axis] + r.Count[axis] - 1) / g.cell[axis]
		at[k] = first[k]
	}
	var runs [][2]uint64
	for {
		n := 0
		for k, axis := range g.order {
			n = n*g.counts[axis] + at[k]
		}
		count := 1 // the innermost axis at once
		if ndim > 0 {
			count = last[ndim-1] - first[ndim-1] + 1
		}
		if l := len(runs) - 1; l >= 0 && runs[l][0]+runs[l][1] == uint64(n) {
			runs[l][1] += uint64(count)
		} else {
			runs = append(runs, [2]uint64{uint64(n), uint64(count)})
		}
		k := ndim - 2
		for ; k >= 0; k-- {
			if at[k]++; at[k] <= last[k] {
				break
			}
			at[k] = first[k]
		}
		if k < 0 {
			return runs
		}
	}
}

// ScatterRegion copies the elements that cell i and the region have in common
// from the cell's bytes to dst, which holds the region in C order. It panics
// when the lengths do not fit. Neither slice is kept.
func (g Grid) ScatterRegion(dst []byte, r Region, cell []byte, i int) {
	itemSize := g.itemSize(cell)
	common := g.Region(i).Intersect(r)
	if itemSize == 0 || common.Elements() == 0 {
		return
	}
	inner := Grid{shape: r.Count, order: COrder(len(r.Count))}
	b := box{counts: common.Count, dstStrides: inner.strides(inner.order, itemSize)}
	cells := Grid{shape: g.cell}
	b.srcStrides = cells.strides(g.order, itemSize)
	from, to := 0, 0
	for axis, start := range common.Start {
		to += (start - r.Start[axis]) * b.dstStrides[axis]
		from += (start % g.cell[axis]) * b.srcStrides[axis]
	}
	b.copy(0, dst[to:], cell[from:], itemSize)
}

// box copies elements between two strided arrays.
type box struct {
	counts                 Shape
	dstStrides, srcStrides [MaxDims]int
}

func (b *box) copy(axis int, dst, src []byte, itemSize int) {
	if axis == len(b.counts) {
		copy(dst[:itemSize], src)
		return
	}
	n := b.counts[axis]
	if axis == len(b.counts)-1 && b.dstStrides[axis] == itemSize && b.srcStrides[axis] == itemSize {
		copy(dst[:n*itemSize], src)
		return
	}
	for x := range n {
		b.copy(axis+1, dst[x*b.dstStrides[axis]:], src[x*b.srcStrides[axis]:], itemSize)
	}
}

// Fill makes dst cell i of an array whose elements are all item; padding is
// zero. It panics when the lengths do not fit.
func (g Grid) Fill(dst []byte, i int, item []byte) {
	g.itemSize(dst)
	clear(dst)
	b := g.block(i, len(item))
	b.fill(0, dst, item)
}

func (b *block) fill(level int, cell, item []byte) {
	if level == b.levels {
		for at := 0; at < b.run; at += len(item) {
			copy(cell[at:], item)
		}
		return
	}
	l := &b.loops[level]
	if level == b.levels-1 && b.run == l.count*l.cellStride {
		b.fill(b.levels, cell, item)
		return
	}
	for x := range l.count {
		b.fill(level+1, cell[x*l.cellStride:], item)
	}
}
