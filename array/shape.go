package array

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
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
