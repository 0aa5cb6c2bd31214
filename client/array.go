package client

import (
	"fmt"

	"ndferry/array"
	"ndferry/wire"
)

// Array is an array in memory.
type Array struct {
	DType array.DType
	Shape array.Shape
	Order array.Order // memory order of the axes; nil: C
	Data  []byte      // the elements in memory order, in the dtype's byte order
}

// Source gives the cells of an array to Put. Its methods are called by one goroutine.
type Source interface {
	// Describe says what the array is.
	Describe() (array.DType, array.Shape, array.Order)
	// Cell returns the bytes of cell i of grid, full size and padded with zeros: memory of its own that stays as it is until the
	// next call, or buf filled, which has the size of a cell.
	Cell(grid array.Grid, i int, buf []byte) ([]byte, error)
}

// Sink takes the cells of an array from Get. Its methods are called by one goroutine.
type Sink interface {
	// Begin is told what will come.
	Begin(stat *Stat, grid array.Grid) error
	// Place returns where the bytes of cell i may be read to, of exactly the size of a cell, or nil.
	Place(i int) []byte
	// Cell is told that the bytes of cell i came, and were checked: in its Place, or in data, which is lent for the call. Cells come
	// in any order.
	Cell(i int, data []byte) error
}

// Describe implements Source.
func (a *Array) Describe() (array.DType, array.Shape, array.Order) { return a.DType, a.Shape, a.Order }

// Cell implements Source.
func (a *Array) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	if a.inPlace(g, i) {
		off, n, _ := g.Contiguous(i)
		size := a.DType.ItemSize()
		return a.Data[off*size:][:n*size], nil
	}
	g.Gather(buf, a.Data, i)
	return buf, nil
}

// inPlace tells that cell i lies in Data as it is sent.
func (a *Array) inPlace(g array.Grid, i int) bool {
	_, n, ok := g.Contiguous(i)
	return ok && n == g.CellElements()
}

// Retyped returns a source of the same bytes whose elements are of another dtype, of the same size: what a .npy file cannot say, such
// as bfloat16.
func Retyped(src Source, dtype array.DType) (Source, error) {
	old, _, _ := src.Describe()
	if old.ItemSize() != dtype.ItemSize() {
		return nil, fmt.Errorf("elements are %v, of %d bytes, and %v has %d", old, old.ItemSize(), dtype, dtype.ItemSize())
	}
	return retyped{src, dtype}, nil
}

type retyped struct {
	Source
	dtype array.DType
}

// Describe implements Source.
func (r retyped) Describe() (array.DType, array.Shape, array.Order) {
	_, shape, order := r.Source.Describe()
	return r.dtype, shape, order
}

// check compares the length of Data with dtype and shape.
func (a *Array) check() error {
	n, err := a.Shape.Bytes(a.DType.ItemSize())
	if err == nil && n != len(a.Data) {
		err = fmt.Errorf("%d bytes of data for %v of %v, which has %d", len(a.Data), a.Shape, a.DType, n)
	}
	return err
}

// memorySink gathers an array in memory.
type memorySink struct {
	Array
	grid array.Grid
}

func (m *memorySink) Begin(st *Stat, g array.Grid) error {
	n, err := st.Shape.Bytes(st.DType.ItemSize())
	if err != nil {
		return err
	}
	m.grid = g
	m.DType, m.Shape, m.Order = st.DType, st.Shape, st.Order
	switch {
	case m.Data == nil:
		m.Data = make([]byte, n)
	case len(m.Data) != n:
		return wire.Failf(wire.CodeInvalid, "the memory to read into has %d bytes, the array %d", len(m.Data), n)
	}
	return nil
}

func (m *memorySink) Place(i int) []byte {
	if off, n, ok := m.grid.Contiguous(i); ok && n == m.grid.CellElements() {
		size := m.DType.ItemSize()
		return m.Data[off*size:][:n*size]
	}
	return nil
}

func (m *memorySink) Cell(i int, data []byte) error {
	if data != nil {
		m.grid.Scatter(m.Data, data, i)
	}
	return nil
}
