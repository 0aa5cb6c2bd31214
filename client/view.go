package client

import (
	"ndferry/array"
)

// View is an array in memory that need not be dense: a transposed, strided or reversed part of another, or one that repeats. Nothing is
// copied but a cell at a time, and what is repeated by steps of 0 travels once, to a server that takes it so.
type View struct {
	DType   array.DType
	Shape   array.Shape
	Strides array.Strides // bytes from one element to the next, by logical axis
	Offset  int           // of the first element in Data, bytes
	Data    []byte        // in the dtype's byte order
}

// NewView checks that the elements of a view lie in its memory. Errors wrap array.ErrShape.
func NewView(dtype array.DType, shape array.Shape, strides array.Strides, offset int, data []byte) (*View, error) {
	if _, err := shape.Bytes(dtype.ItemSize()); err != nil {
		return nil, err
	}
	if err := strides.Check(shape, dtype.ItemSize(), offset, len(data)); err != nil {
		return nil, err
	}
	return &View{DType: dtype, Shape: shape, Strides: strides, Offset: offset, Data: data}, nil
}

// Describe implements Source. Axes that repeat are outermost in memory.
func (v *View) Describe() (array.DType, array.Shape, array.Order) {
	return v.DType, v.Shape, v.Strides.Order(v.Shape)
}

// Cell implements Source.
func (v *View) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	size := v.DType.ItemSize()
	if off, n, ok := g.Contiguous(i); ok && n == g.CellElements() && v.Strides.Dense(v.Shape, g.Order(), size) {
		return v.Data[v.Offset+off*size:][:n*size], nil
	}
	g.GatherStrided(buf, v.Data, v.Offset, v.Strides, i)
	return buf, nil
}

// repeated tells along which axes all elements are the same memory.
func (v *View) repeated() []bool {
	axes := make([]bool, len(v.Shape))
	for axis, n := range v.Shape {
		axes[axis] = n > 1 && v.Strides[axis] == 0
	}
	return axes
}
