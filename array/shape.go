package array

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrShape is wrapped by every refusal of a shape, order, cell or region: bad
// number of axes, negative lengths, products beyond MaxBytes.
var ErrShape = errors.New("bad shape")

// Shape is the length of each logical axis. A shape of no axes is that of a
// 0-d array, which has one element.
type Shape []int

// Check reports whether the shape is within the limits: axes, lengths and the
// number of elements. Errors wrap ErrShape.
func (s Shape) Check() error {
	_, err := s.Elements()
	return err
}

// Elements returns the number of elements. As in NumPy, the product of the
// axes that are not 0 must be within the limit too, so that strides are safe to
// compute. Errors wrap ErrShape.
func (s Shape) Elements() (int, error) { return s.Bytes(1) }

// Bytes returns the number of bytes of that many elements of itemSize bytes.
// Errors wrap ErrShape.
func (s Shape) Bytes(itemSize int) (int, error) {
	if len(s) > MaxDims {
		return 0, fmt.Errorf("array: shape of %d axes: %w: %w: the most is %d", len(s), ErrShape, ErrLimit, MaxDims)
	}
	if itemSize < 0 || itemSize > MaxItemSize {
		return 0, fmt.Errorf("array: item of %d bytes: %w: the most is %d", itemSize, ErrShape, MaxItemSize)
	}
	total, empty := max(itemSize, 1), itemSize == 0
	for axis, n := range s {
		switch {
		case n < 0:
			return 0, fmt.Errorf("array: shape %v: %w: axis %d is negative", s, ErrShape, axis)
		case n == 0:
			empty = true
		case total > MaxBytes/n:
			return 0, fmt.Errorf("array: shape %v of %d-byte items: %w: %w of %d bytes", s, itemSize, ErrShape, ErrLimit, MaxBytes)
		default:
			total *= n
		}
	}
	if empty {
		return 0, nil
	}
	return total, nil
}

// Equal reports whether both have the same axes.
func (s Shape) Equal(o Shape) bool { return slices.Equal(s, o) }

// String writes the shape as Python does: "()", "(3,)", "(3, 4)".
func (s Shape) String() string { return string(s.appendTuple(nil)) }

func (s Shape) appendTuple(dst []byte) []byte {
	dst = append(dst, '(')
	for i, n := range s {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	if len(s) == 1 {
		dst = append(dst, ',')
	}
	return append(dst, ')')
}

// Region is a box of elements: Count elements from Start, per logical axis.
type Region struct {
	Start, Count Shape
}

// WholeRegion returns the region of all elements of an array of that shape.
func WholeRegion(s Shape) Region {
	return Region{Start: make(Shape, len(s)), Count: slices.Clone(s)}
}

// Check reports whether the region lies within an array of that shape. Errors
// wrap ErrShape.
func (r Region) Check(s Shape) error {
	if len(r.Start) != len(s) || len(r.Count) != len(s) {
		return fmt.Errorf("array: region %v of shape %v: %w: not the same number of axes", r, s, ErrShape)
	}
	for i, n := range s {
		if r.Start[i] < 0 || r.Count[i] < 0 || r.Start[i] > n || r.Count[i] > n-r.Start[i] {
			return fmt.Errorf("array: region %v of shape %v: %w: axis %d is out of range", r, s, ErrShape, i)
		}
	}
	return nil
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

// Intersect returns the common part of two regions of one array. A part that is
// empty has Count 0 in at least one axis.
func (r Region) Intersect(o Region) Region {
	out := Region{Start: make(Shape, len(r.Start)), Count: make(Shape, len(r.Start))}
	for i := range r.Start {
		start := max(r.Start[i], o.Start[i])
		end := min(r.Start[i]+r.Count[i], o.Start[i]+o.Count[i])
		out.Start[i], out.Count[i] = start, max(end-start, 0)
	}
	return out
}

// Equal reports whether both are the same box.
func (r Region) Equal(o Region) bool { return r.Start.Equal(o.Start) && r.Count.Equal(o.Count) }

// String writes the region as Python slices: "[0:10, 3:4]".
func (r Region) String() string {
	var b strings.Builder
	b.WriteByte('[')
	for i, start := range r.Start {
		if i > 0 {
			b.WriteString(", ")
		}
		end := "?"
		if i < len(r.Count) {
			end = strconv.Itoa(start + r.Count[i])
		}
		b.WriteString(strconv.Itoa(start) + ":" + end)
	}
	b.WriteByte(']')
	return b.String()
}
