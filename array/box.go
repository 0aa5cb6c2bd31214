package array

// TouchedBy returns the cells that hold elements of the region, as runs of
// consecutive numbers [first, count], in order. The region must lie within the
// array (Region.Check).
func (g Grid) TouchedBy(r Region) [][2]uint64 {
	if r.Elements() == 0 || g.cells == 0 {
		return nil
	}
	ndim := len(g.shape)
	var axes [MaxDims]touched // in stored order
	for k, axis := range g.order {
		axes[k] = g.touchedAlong(r, axis)
	}
	var runs [][2]uint64
	add := func(first, count int) {
		if l := len(runs) - 1; l >= 0 && runs[l][0]+runs[l][1] == uint64(first) {
			runs[l][1] += uint64(count)
		} else {
			runs = append(runs, [2]uint64{uint64(first), uint64(count)})
		}
	}
	var at [MaxDims]int // which of the touched ones
	for {
		n := 0
		for k, axis := range g.order {
			n = n*g.counts[axis] + axes[k].coordinate(at[k])
		}
		switch {
		case ndim == 0:
			add(n, 1)
		case axes[ndim-1].list == nil: // the innermost axis at once
			add(n, axes[ndim-1].count)
		default:
			in := &axes[ndim-1]
			for _, c := range in.list {
				add(n-in.list[0]+c, 1)
			}
		}
		k := ndim - 2
		for ; k >= 0; k-- {
			if at[k]++; at[k] < axes[k].count {
				break
			}
			at[k] = 0
		}
		if k < 0 {
			return runs
		}
	}
}

// touched is the cells along one axis that a region touches, in order: those
// from first on, or those of the list.
type touched struct {
	first, count int
	list         []int
}

func (t *touched) coordinate(i int) int {
	if t.list != nil {
		return t.list[i]
	}
	return t.first + i
}

func (g Grid) touchedAlong(r Region, axis int) touched {
	c, step, n := g.cell[axis], r.step(axis), r.Count[axis]
	low := r.Start[axis]
	high := low + (n-1)*step
	if step < 0 {
		low, high, step = high, low, -step
	}
	if step <= c {
		return touched{first: low / c, count: high/c - low/c + 1}
	}
	t := touched{list: make([]int, n), count: n} // each element lies in a cell of its own
	for i := range t.list {
		t.list[i] = (low + i*step) / c
	}
	return t
}

// ScatterRegion copies the elements that cell i and the region have in common
// from the cell's bytes to dst, which holds the region in C order. It panics
// when the lengths do not fit. Neither slice is kept.
func (g Grid) ScatterRegion(dst []byte, r Region, cell []byte, i int) {
	itemSize := g.itemSize(cell)
	part := g.Region(i)
	inner := Grid{shape: r.Count, order: COrder(len(r.Count))}
	b := box{counts: make(Shape, len(r.Count)), dstStrides: inner.strides(inner.order, itemSize)}
	cells := Grid{shape: g.cell}
	b.srcStrides = cells.strides(g.order, itemSize)
	from, to := 0, 0
	for axis := range r.Count {
		first, count := r.within(axis, part.Start[axis], part.Start[axis]+part.Count[axis])
		if count == 0 || itemSize == 0 {
			return
		}
		b.counts[axis] = count
		to += first * b.dstStrides[axis]
		from += (r.Start[axis] + first*r.step(axis) - part.Start[axis]) * b.srcStrides[axis]
		b.srcStrides[axis] *= r.step(axis)
	}
	b.copy(0, dst, cell, to, from, itemSize)
}

// box copies elements between two strided arrays.
type box struct {
	counts                 Shape
	dstStrides, srcStrides [MaxDims]int
}

func (b *box) copy(axis int, dst, src []byte, to, from, itemSize int) {
	if axis == len(b.counts) {
		copy(dst[to:to+itemSize], src[from:])
		return
	}
	n, dstStride, srcStride := b.counts[axis], b.dstStrides[axis], b.srcStrides[axis]
	switch last := axis == len(b.counts)-1; {
	case last && dstStride == itemSize && srcStride == itemSize:
		copy(dst[to:to+n*itemSize], src[from:])
	case last:
		for x := range n {
			copy(dst[to+x*dstStride:][:itemSize], src[from+x*srcStride:])
		}
	default:
		for x := range n {
			b.copy(axis+1, dst, src, to+x*dstStride, from+x*srcStride, itemSize)
		}
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
