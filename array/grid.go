package array

import (
	"fmt"
	"slices"
)

// Grid cuts an array into cells of one shape. It is immutable and may be shared
// between goroutines. Make grids with NewGrid; the zero value has no cells.
//
// Cells are numbered from 0 in C order of the stored grid (the axes permuted by
// the order). A cell beyond the end of the array does not exist; the last cell
// of an axis may reach over the end and is then padded (see Gather).
type Grid struct {
	shape, cell Shape // logical axes
	order       Order // never nil
	counts      Shape // cells per logical axis
	cells       int
	elements    int
	cellElems   int
}

// NewGrid returns the grid of cells of the given shape over an array. The cell
// is in logical axes, each at least 1; it may be larger than the array. order is
// nil for C order. Errors wrap ErrShape.
func NewGrid(shape, cell Shape, order Order) (Grid, error) {
	elements, err := shape.Elements()
	if err != nil {
		return Grid{}, err
	}
	if len(cell) != len(shape) {
		return Grid{}, fmt.Errorf("array: cell %v of shape %v: %w: not the same number of axes", cell, shape, ErrShape)
	}
	if err := order.Check(len(shape)); err != nil {
		return Grid{}, err
	}
	for axis, c := range cell {
		if c < 1 {
			return Grid{}, fmt.Errorf("array: cell %v: %w: axis %d must be at least 1", cell, ErrShape, axis)
		}
	}
	cellElems, err := cell.Elements()
	if err != nil {
		return Grid{}, err
	}
	// One piece of memory for all: a PUT of some KiB notices.
	n := len(shape)
	memory := make([]int, 5*n)
	list := func(k int) []int { return memory[k*n : (k+1)*n : (k+1)*n] }
	g := Grid{shape: list(0), cell: list(1), order: list(2), counts: list(3), elements: elements, cellElems: cellElems}
	copy(g.shape, shape)
	copy(g.cell, cell)
	order.resolve(g.order)
	padded := Shape(list(4))
	for axis, n := range shape {
		g.counts[axis] = ceilDiv(n, cell[axis])
		if g.counts[axis] > MaxBytes/cell[axis] {
			return Grid{}, fmt.Errorf("array: cell %v of shape %v: %w: padded beyond %d", cell, shape, ErrShape, MaxBytes)
		}
		padded[axis] = g.counts[axis] * cell[axis]
	}
	if err := padded.Check(); err != nil {
		return Grid{}, fmt.Errorf("array: cell %v of shape %v: padded: %w", cell, shape, err)
	}
	if g.cells, err = g.counts.Elements(); err != nil {
		return Grid{}, err
	}
	if g.cells > MaxCells {
		return Grid{}, fmt.Errorf("array: cell %v of shape %v: %w: %w: %d cells, the most is %d; use larger cells",
			cell, shape, ErrShape, ErrLimit, g.cells, MaxCells)
	}
	return g, nil
}

// DefaultCell returns the cell, in logical axes, that ndferry uses when the user
// names none. It cuts the first axis, in memory order, whose slab fits the
// target: n slabs of s bytes, k = max(1, floor(target/s)), m = ceil(n/k),
// c = ceil(n/m); cells (1,...,1,c,rest...). So all cells but the last of a row
// are equally full, and cells lie one after the other in memory. Axes of length
// 0 get cell 1; a 0-d array has cell ().
//
// target is in bytes; 0 or less means DefaultCellTarget, and more than
// MaxCellTarget means MaxCellTarget. shape, order and itemSize must be valid.
func DefaultCell(shape Shape, order Order, itemSize, target int) Shape {
	if target <= 0 {
		target = DefaultCellTarget
	}
	target = min(target, MaxCellTarget)
	order = order.resolved(len(shape))
	cell := make(Shape, len(shape))
	for i := range cell {
		cell[i] = 1
	}
	slab := max(itemSize, 1) // bytes of one step along the axis at hand
	for k := len(order) - 1; k >= 0; k-- {
		axis := order[k]
		n := max(shape[axis], 1)
		// The last axis is cut even if one item is over the target.
		fits := slab <= target
		if !fits && k < len(order)-1 {
			break
		}
		perCell := max(1, target/slab)
		m := ceilDiv(n, perCell)
		// An inner axis is whole when the next outer one is cut.
		if k < len(order)-1 {
			cell[order[k+1]] = max(shape[order[k+1]], 1)
		}
		cell[axis] = ceilDiv(n, m)
		if slab > MaxBytes/n {
			break
		}
		slab *= n
	}
	return cell
}

// Shape returns the shape of the array.
func (g Grid) Shape() Shape { return slices.Clone(g.shape) }

// Cell returns the shape of one cell, in logical axes.
func (g Grid) Cell() Shape { return slices.Clone(g.cell) }

// Order returns the memory order, never nil.
func (g Grid) Order() Order { return slices.Clone(g.order) }

// Counts returns the number of cells along each logical axis.
func (g Grid) Counts() Shape { return slices.Clone(g.counts) }

// Len returns the number of cells: 0 for an empty array, 1 for a 0-d one.
func (g Grid) Len() int { return g.cells }

// Elements returns the number of elements of the array.
func (g Grid) Elements() int { return g.elements }

// CellElements returns the number of elements of one full cell, padding included.
func (g Grid) CellElements() int { return g.cellElems }

// PaddedShape returns the shape of the array with every cell full, in logical
// axes. Axes of length 0 stay 0.
func (g Grid) PaddedShape() Shape {
	padded := make(Shape, len(g.shape))
	for axis := range padded {
		padded[axis] = g.counts[axis] * g.cell[axis]
	}
	return padded
}

// Slabs reports whether the cells one after the other are the padded array in
// its memory order: outer axes are cut into single steps, at most one axis into
// more, the inner ones are whole. Grids with DefaultCell are. A body of such
// cells can be mapped as one strided array.
func (g Grid) Slabs() bool {
	k := 0
	for k < len(g.order) && g.cell[g.order[k]] == 1 {
		k++
	}
	for _, axis := range g.order[min(k+1, len(g.order)):] {
		if g.counts[axis] > 1 {
			return false
		}
	}
	return true
}

// Region returns the part of the array that cell i holds, in logical axes,
// clipped to the array. It panics unless 0 <= i < Len.
func (g Grid) Region(i int) Region {
	r := Region{Start: make(Shape, len(g.shape)), Count: make(Shape, len(g.shape))}
	g.locate(i, r.Start)
	for axis, n := range g.shape {
		r.Start[axis] *= g.cell[axis]
		r.Count[axis] = min(g.cell[axis], n-r.Start[axis])
	}
	return r
}

// locate writes the coordinates of cell i in the grid, in logical axes.
func (g Grid) locate(i int, at []int) {
	if i < 0 || i >= g.cells {
		panic(fmt.Sprintf("array: cell %d of a grid of %d", i, g.cells))
	}
	for k := len(g.order) - 1; k >= 0; k-- {
		axis := g.order[k]
		at[axis] = i % g.counts[axis]
		i /= g.counts[axis]
	}
}

// StoredIndex returns the index of the cell whose number in C order of the
// logical grid is l. Zarr's shard index has its entries in that logical order.
// It panics unless 0 <= l < Len.
func (g Grid) StoredIndex(l int) int {
	if l < 0 || l >= g.cells {
		panic(fmt.Sprintf("array: cell %d of a grid of %d", l, g.cells))
	}
	var at [MaxDims]int
	for axis := len(g.counts) - 1; axis >= 0; axis-- {
		at[axis] = l % g.counts[axis]
		l /= g.counts[axis]
	}
	return g.index(at[:len(g.counts)], g.order)
}

// LogicalIndex is the inverse of StoredIndex: the number of cell i in C order
// of the logical grid. It panics unless 0 <= i < Len.
func (g Grid) LogicalIndex(i int) int {
	var at [MaxDims]int
	g.locate(i, at[:len(g.counts)])
	n := 0
	for axis, count := range g.counts {
		n = n*count + at[axis]
	}
	return n
}

// Index returns the number of the cell at the given grid coordinates (logical
// axes). It panics when they are outside of the grid.
func (g Grid) Index(at Shape) int {
	if len(at) != len(g.counts) {
		panic(fmt.Sprintf("array: cell %v of a grid of %v", at, g.counts))
	}
	for axis, x := range at {
		if x < 0 || x >= g.counts[axis] {
			panic(fmt.Sprintf("array: cell %v of a grid of %v", at, g.counts))
		}
	}
	return g.index(at, g.order)
}

func (g Grid) index(at []int, order Order) int {
	n := 0
	for _, axis := range order {
		n = n*g.counts[axis] + at[axis]
	}
	return n
}

func ceilDiv(a, b int) int {
	q := a / b
	if a%b != 0 {
		q++
	}
	return q
}
