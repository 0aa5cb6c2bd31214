package array

import "fmt"

// Run is one stretch of elements that lie together both in an array and in a
// cell. All numbers count elements.
type Run struct{ Array, Cell, Len int }

// Runs calls yield with the runs of cell i, in the order of the cell, until it
// returns false. The array is laid out in the given memory order, which may
// differ from the grid's; nil is C order. All runs of a cell have one length.
// Padding is in no run. It is for arrays that are not in memory; for those that
// are, Gather and Scatter are faster. It panics unless 0 <= i < Len and the
// order is one of the grid's axes.
func (g Grid) Runs(i int, order Order, yield func(Run) bool) {
	if !order.Valid(len(g.shape)) {
		panic(fmt.Sprintf("array: order %v of %d axes", []int(order), len(g.shape)))
	}
	strides := g.strides(order.resolved(len(g.shape)), 1)
	b := g.blockIn(i, 1, &strides)
	b.runs(0, b.origin, 0, yield)
}

// RunLen returns how long the runs of cell i are, in elements; see Runs.
func (g Grid) RunLen(i int, order Order) (n int) {
	g.Runs(i, order, func(r Run) bool { n = r.Len; return false })
	return n
}

// strides returns the steps in bytes, by logical axis, of the whole array in a
// memory order.
func (g Grid) strides(order Order, itemSize int) (strides [MaxDims]int) {
	step := itemSize
	for k := len(order) - 1; k >= 0; k-- {
		strides[order[k]] = step
		step *= g.shape[order[k]]
	}
	return strides
}

func (b *block) runs(level, array, cell int, yield func(Run) bool) bool {
	if level == b.levels {
		return yield(Run{array, cell, b.run})
	}
	l := &b.loops[level]
	if level == b.levels-1 && b.run == l.count*l.cellStride {
		return yield(Run{array, cell, b.run})
	}
	for x := range l.count {
		if !b.runs(level+1, array+x*l.arrayStride, cell+x*l.cellStride, yield) {
			return false
		}
	}
	return true
}
