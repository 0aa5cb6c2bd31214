package array

import (
	"fmt"
	"slices"
)

// Order is the memory order of an array: a permutation of the logical axes,
// outermost (slowest) first. nil means C order. It has the same meaning as the
// order member of Zarr's transpose codec.
type Order []int

// COrder returns C order of n axes: [0 1 ... n-1].
func COrder(n int) Order {
	o := make(Order, n)
	for i := range o {
		o[i] = i
	}
	return o
}

// FOrder returns Fortran order of n axes: [n-1 ... 1 0].
func FOrder(n int) Order {
	o := COrder(n)
	slices.Reverse(o)
	return o
}

// Check reports whether o is nil or a permutation of ndim axes. Errors wrap
// ErrShape.
func (o Order) Check(ndim int) error {
	if !o.Valid(ndim) {
		return fmt.Errorf("array: order %v: %w: not a permutation of %d axes", []int(o), ErrShape, ndim)
	}
	return nil
}

// Valid reports whether o is nil or a permutation of ndim axes.
func (o Order) Valid(ndim int) bool {
	if o == nil {
		return true
	}
	if len(o) != ndim || ndim > MaxDims {
		return false
	}
	var seen uint64
	for _, axis := range o {
		if axis < 0 || axis >= ndim || seen&(1<<axis) != 0 {
			return false
		}
		seen |= 1 << axis
	}
	return true
}

// IsC reports whether o is C order. nil is.
func (o Order) IsC() bool {
	for i, axis := range o {
		if axis != i {
			return false
		}
	}
	return true
}

// IsF reports whether o is Fortran order. Orders of one axis are both C and F;
// nil, which does not say how many axes there are, is only C.
func (o Order) IsF() bool {
	for i, axis := range o {
		if axis != len(o)-1-i {
			return false
		}
	}
	return o != nil
}

// resolved returns the permutation that o stands for.
func (o Order) resolved(ndim int) Order {
	full := make(Order, ndim)
	o.resolve(full)
	return full
}

// resolve writes o to full, C order for nil.
func (o Order) resolve(full Order) {
	if o != nil {
		copy(full, o)
		return
	}
	for axis := range full {
		full[axis] = axis
	}
}
