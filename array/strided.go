package array

import (
	"cmp"
	"fmt"
	"slices"
)

// Strides are the steps in bytes from one element to the next, by logical axis,
// of elements that need not lie densely: 0 repeats the same memory, negative
// ones go backwards, as in NumPy.
type Strides []int

// Check reports whether all elements of itemSize bytes of an array of that
// shape, of which the first is at offset, lie in memory of so many bytes. Errors
// wrap ErrShape.
func (s Strides) Check(shape Shape, itemSize, offset, memory int) error {
	if len(s) != len(shape) {
		return fmt.Errorf("array: strides %v of shape %v: %w: not the same number of axes", []int(s), shape, ErrShape)
	}
	n, err := shape.Elements()
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	low, high := offset, offset
	for axis, step := range s {
		last := shape[axis] - 1
		if last > 0 && (step > memory || -step > memory || max(step, -step) > memory/last) {
			low = -1
			break
		}
		if step < 0 {
			low += last * step
		} else {
			high += last * step
		}
	}
	if low < 0 || high > memory-itemSize {
		return fmt.Errorf("array: strides %v of shape %v from %d on: %w: beyond the memory, which has %d bytes", []int(s), shape, offset, ErrShape, memory)
	}
	return nil
}

// Order returns the memory order of an array of that shape: the axis with the
// widest steps outermost, axes that repeat before all others.
func (s Strides) Order(shape Shape) Order {
	order := COrder(len(s))
	wide := func(axis int) int {
		if s[axis] == 0 {
			return MaxBytes
		}
		return max(s[axis], -s[axis])
	}
	var ranked []int // axes of one element stay where they are
	for _, axis := range order {
		if shape[axis] != 1 {
			ranked = append(ranked, axis)
		}
	}
	slices.SortStableFunc(ranked, func(a, b int) int { return cmp.Compare(wide(b), wide(a)) })
	for k := range order {
		if shape[k] != 1 {
			order[k], ranked = ranked[0], ranked[1:]
		}
	}
	return order
}

// Dense reports whether the elements of itemSize bytes lie one after the other
// in that memory order.
func (s Strides) Dense(shape Shape, order Order, itemSize int) bool {
	want := Grid{shape: shape}.strides(order.resolved(len(shape)), itemSize)
	for axis, n := range shape {
		if n == 0 {
			return true
		}
		if n > 1 && s[axis] != want[axis] {
			return false
		}
	}
	return true
}

// GatherStrided fills dst with cell i of an array whose first element is at
// src[offset] and whose elements lie as the strides say; padding becomes zero.
// dst is the full cell. The strides must have been checked; it panics when the
// lengths do not fit. Neither slice is kept.
func (g Grid) GatherStrided(dst, src []byte, offset int, strides Strides, i int) {
	itemSize := g.itemSize(dst)
	if itemSize == 0 {
		return
	}
	var steps [MaxDims]int
	copy(steps[:], strides)
	b := g.blockIn(i, itemSize, &steps)
	b.gatherAt(0, dst, src, offset+b.origin)
}

func (b *block) gatherAt(level int, cell, src []byte, at int) {
	if b.levels == 0 {
		copy(cell[:b.run], src[at:])
		return
	}
	l := &b.loops[level]
	used := l.count * l.cellStride
	switch {
	case level < b.levels-1:
		for x := range l.count {
			b.gatherAt(level+1, cell[x*l.cellStride:], src, at+x*l.arrayStride)
		}
	case b.run == used:
		copy(cell[:used], src[at:])
	default:
		for x := range l.count {
			copy(cell[x*l.cellStride:][:b.run], src[at+x*l.arrayStride:])
		}
	}
	clear(cell[used : l.full*l.cellStride])
}
