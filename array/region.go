package array

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Region is a part of an array: per logical axis Count elements from Start on,
// each Step behind the one before. No steps are steps of 1, which make a box;
// a negative one goes backwards, as in NumPy.
type Region struct {
	Start, Count Shape
	Step         []int // never 0; nil: all 1
}

// WholeRegion returns the region of all elements of an array of that shape.
func WholeRegion(s Shape) Region {
	return Region{Start: make(Shape, len(s)), Count: slices.Clone(s)}
}

// Check reports whether the region lies within an array of that shape. Errors
// wrap ErrShape.
func (r Region) Check(s Shape) error {
	if len(r.Start) != len(s) || len(r.Count) != len(s) || r.Step != nil && len(r.Step) != len(s) {
		return fmt.Errorf("array: region %v of shape %v: %w: not the same number of axes", r, s, ErrShape)
	}
	for i, n := range s {
		start, count, step := r.Start[i], r.Count[i], r.step(i)
		if step == 0 {
			return fmt.Errorf("array: region %v of shape %v: %w: the step of axis %d is 0", r, s, ErrShape, i)
		}
		inside := start >= 0 && start <= n && count >= 0
		if inside && count > 0 {
			// From start on there are so many steps to the edge.
			room := n - 1 - start
			if step < 0 {
				room = start
			}
			inside = start < n && (count == 1 || step > -n && step < n && count-1 <= room/max(step, -step))
		}
		if !inside {
			return fmt.Errorf("array: region %v of shape %v: %w: axis %d is out of range", r, s, ErrShape, i)
		}
	}
	return nil
}

func (r Region) step(axis int) int {
	if r.Step == nil {
		return 1
	}
	return r.Step[axis]
}

// Elements returns the number of elements. The region must lie within an array
// whose shape is valid (Check); else the number may overflow.
func (r Region) Elements() int {
	n := 1
	for _, c := range r.Count {
		n *= c
	}
	return n
}

// Intersect returns the common part of two boxes of one array; steps do not
// count. A part that is empty has Count 0 in at least one axis.
func (r Region) Intersect(o Region) Region {
	out := Region{Start: make(Shape, len(r.Start)), Count: make(Shape, len(r.Start))}
	for i := range r.Start {
		start := max(r.Start[i], o.Start[i])
		end := min(r.Start[i]+r.Count[i], o.Start[i]+o.Count[i])
		out.Start[i], out.Count[i] = start, max(end-start, 0)
	}
	return out
}

// Equal reports whether both are the same elements in the same order, said in
// the same way.
func (r Region) Equal(o Region) bool {
	return r.Start.Equal(o.Start) && r.Count.Equal(o.Count) &&
		!slices.ContainsFunc(COrder(len(r.Start)), func(axis int) bool { return r.step(axis) != o.step(axis) })
}

// String writes the region much as Python writes slices: "[0:10, 3:4, 9:-1:-3]".
func (r Region) String() string {
	var b strings.Builder
	b.WriteByte('[')
	for i, start := range r.Start {
		if i > 0 {
			b.WriteString(", ")
		}
		step := 1
		if i < len(r.Step) {
			step = r.Step[i]
		}
		end := "?"
		if i < len(r.Count) {
			end = strconv.Itoa(start + r.Count[i]*step)
		}
		b.WriteString(strconv.Itoa(start) + ":" + end)
		if step != 1 {
			b.WriteString(":" + strconv.Itoa(step))
		}
	}
	b.WriteByte(']')
	return b.String()
}

// within returns which elements of the region along an axis lie in [low, high),
// as the first and the number of them.
func (r Region) within(axis, low, high int) (first, count int) {
	start, step, n := r.Start[axis], r.step(axis), r.Count[axis]
	if step < 0 { // seen from the other side
		start, low, high, step = -start, 1-high, 1-low, -step
	}
	first = max(0, ceilDiv(max(low-start, 0), step))
	end := 0
	if high > start {
		end = ceilDiv(high-start, step)
	}
	return first, max(min(end, n)-first, 0)
}
