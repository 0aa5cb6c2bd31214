package array

import (
	"errors"
	"math"
	"slices"
	"testing"
)

func TestShape_bytes(t *testing.T) {
	ones := make(Shape, MaxDims)
	for i := range ones {
		ones[i] = 1
	}
	for _, tt := range []struct {
		shape          Shape
		itemSize, want int // want -1: refused
	}{
		{nil, 8, 8},
		{Shape{}, 1, 1},
		{Shape{0}, 8, 0},
		{Shape{3, 0, 2}, 8, 0},
		{Shape{3, 4}, 0, 0},
		{Shape{2, 1000003}, 4, 8000024},
		{ones, 16, 16},
		{append(slices.Clone(ones), 1), 1, -1},
		{Shape{-1}, 1, -1},
		{Shape{0, -1}, 1, -1},
		{Shape{math.MinInt}, 1, -1},
		{Shape{1 << 62}, 1, 1 << 62},
		{Shape{1<<62 + 1}, 1, -1},
		{Shape{1 << 62}, 2, -1},
		{Shape{1 << 31, 1 << 31}, 1, 1 << 62},
		{Shape{1 << 31, 1 << 31}, 2, -1},
		{Shape{1 << 32, 1 << 32}, 1, -1},
		{Shape{math.MaxInt, math.MaxInt}, 1, -1},
		{Shape{0, 1 << 32, 1 << 32}, 1, -1},
		{Shape{1 << 32, 1 << 32, 0}, 1, -1},
		{Shape{1}, -1, -1},
		{Shape{1}, MaxItemSize + 1, -1},
	} {
		got, err := tt.shape.Bytes(tt.itemSize)
		if tt.want < 0 {
			if !errors.Is(err, ErrShape) {
				t.Errorf("%v of %d: %d, %v", tt.shape, tt.itemSize, got, err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%v of %d: %d, %v, want %d", tt.shape, tt.itemSize, got, err, tt.want)
		}
	}
}

func TestShape_string(t *testing.T) {
	for want, s := range map[string]Shape{"()": nil, "(3,)": {3}, "(3, -4)": {3, -4}} {
		if s.String() != want {
			t.Errorf("%s, want %s", s, want)
		}
	}
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		order       Order
		ndim        int
		valid, c, f bool
	}{
		{nil, 0, true, true, false},
		{nil, 5, true, true, false},
		{Order{}, 0, true, true, true},
		{Order{0}, 1, true, true, true},
		{Order{0, 1}, 2, true, true, false},
		{Order{1, 0}, 2, true, false, true},
		{Order{1, 2, 0}, 3, true, false, false},
		{COrder(64), 64, true, true, false},
		{FOrder(64), 64, true, false, true},
		{COrder(65), 65, false, true, false},
		{Order{0}, 2, false, true, true},
		{Order{0, 0}, 2, false, false, false},
		{Order{0, 2}, 2, false, false, false},
		{Order{-1, 0}, 2, false, false, false},
	} {
		if got := tt.order.Valid(tt.ndim); got != tt.valid || (tt.order.Check(tt.ndim) == nil) != got {
			t.Errorf("%v of %d: valid %v", []int(tt.order), tt.ndim, got)
		}
		if tt.order.IsC() != tt.c || tt.order.IsF() != tt.f {
			t.Errorf("%v: C %v, F %v", []int(tt.order), tt.order.IsC(), tt.order.IsF())
		}
	}
	if !errors.Is(Order{1}.Check(1), ErrShape) {
		t.Error("a bad order is not ErrShape")
	}
}

func TestRegion(t *testing.T) {
	a := Region{Start: Shape{0, 5}, Count: Shape{10, 5}}
	for _, tt := range []struct {
		b, want Region
	}{
		{Region{Start: Shape{3, 0}, Count: Shape{2, 7}}, Region{Start: Shape{3, 5}, Count: Shape{2, 2}}},
		{Region{Start: Shape{9, 9}, Count: Shape{9, 9}}, Region{Start: Shape{9, 9}, Count: Shape{1, 1}}},
		{Region{Start: Shape{0, 0}, Count: Shape{10, 5}}, Region{Start: Shape{0, 5}, Count: Shape{10, 0}}},
		{Region{Start: Shape{20, 0}, Count: Shape{1, 20}}, Region{Start: Shape{20, 5}, Count: Shape{0, 5}}},
	} {
		if got := a.Intersect(tt.b); !got.Equal(tt.want) || got.Elements() != tt.want.Elements() {
			t.Errorf("%v with %v: %v, want %v", a, tt.b, got, tt.want)
		}
		if x, y := a.Intersect(tt.b), tt.b.Intersect(a); !x.Equal(y) {
			t.Errorf("%v is not %v", x, y)
		}
	}
	if s := a.String(); s != "[0:10, 5:10]" {
		t.Error(s)
	}
	shape := Shape{10, 10}
	if err := a.Check(shape); err != nil {
		t.Error(err)
	}
	if w := WholeRegion(shape); w.Check(shape) != nil || w.Elements() != 100 {
		t.Error(w)
	}
	for _, bad := range []Region{
		{}, {Start: Shape{0}, Count: Shape{1}}, {Start: Shape{0, 0}, Count: Shape{1}}, {Start: Shape{-1, 0}, Count: Shape{1, 1}}, {Start: Shape{0, 0}, Count: Shape{-1, 1}},
		{Start: Shape{0, 0}, Count: Shape{11, 1}}, {Start: Shape{10, 0}, Count: Shape{1, 1}}, {Start: Shape{11, 0}, Count: Shape{0, 1}},
		{Start: Shape{1, 0}, Count: Shape{math.MaxInt, 1}}, {Start: Shape{math.MaxInt, 0}, Count: Shape{math.MaxInt, 1}},
	} {
		if err := bad.Check(shape); !errors.Is(err, ErrShape) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestNewGrid_refuses(t *testing.T) {
	for _, tt := range []struct {
		shape, cell Shape
		order       Order
	}{
		{Shape{3}, Shape{}, nil},
		{Shape{3}, Shape{1, 1}, nil},
		{Shape{3}, Shape{0}, nil},
		{Shape{0}, Shape{0}, nil},
		{Shape{3}, Shape{-1}, nil},
		{Shape{-3}, Shape{1}, nil},
		{Shape{3}, Shape{1}, Order{1}},
		{Shape{3, 3}, Shape{1, 1}, Order{0}},
		{Shape{3, 3}, Shape{1, 1}, Order{0, 0}},
		{Shape{1, 1}, Shape{1 << 32, 1 << 32}, nil},
		{Shape{1 << 62}, Shape{1<<62 - 1}, nil},
		{Shape{1 << 62}, Shape{1}, nil},
		{Shape{MaxCells + 1}, Shape{1}, nil},
		{Shape{1 << 40, 3}, Shape{1 << 40, 1 << 30}, nil},
		{make(Shape, 65), onesShape(65), nil},
	} {
		if _, err := NewGrid(tt.shape, tt.cell, tt.order); !errors.Is(err, ErrShape) {
			t.Errorf("%v by %v in %v: %v", tt.shape, tt.cell, tt.order, err)
		}
	}
	if g, err := NewGrid(Shape{MaxCells}, Shape{1}, nil); err != nil || g.Len() != MaxCells {
		t.Errorf("the most cells: %v", err)
	}
}

// onesShape is n axes of 1.
func onesShape(n int) Shape {
	s := make(Shape, n)
	for i := range s {
		s[i] = 1
	}
	return s
}

func TestDefaultCell(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name             string
		shape            Shape
		order            Order
		itemSize, target int
		want             Shape
	}{
		{"0-d", Shape{}, nil, 8, 0, Shape{}},
		{"empty", Shape{0}, nil, 8, 0, Shape{1}},
		{"empty inside", Shape{3, 0, 2}, nil, 8, 0, Shape{3, 1, 2}},
		{"one element", Shape{1}, nil, 8, 0, Shape{1}},
		{"fits", Shape{100, 100}, nil, 8, 0, Shape{100, 100}},
		{"exactly fits", Shape{mib}, nil, 4, 0, Shape{mib}},
		{"one over", Shape{mib + 1}, nil, 4, 0, Shape{mib/2 + 1}},
		{"rows", Shape{1000, 1000}, nil, 8, 0, Shape{500, 1000}},
		{"wide rows", Shape{2, 1000003}, nil, 8, 0, Shape{1, 500002}},
		{"rows larger than the target", Shape{3, 2, 5 * mib}, nil, 1, 0, Shape{1, 1, 5 * mib / 2}},
		{"Fortran", Shape{1000, 1000, 3}, FOrder(3), 8, 0, Shape{1000, 500, 1}},
		{"permuted", Shape{1000, 3, 1000}, Order{1, 2, 0}, 8, 0, Shape{1000, 1, 500}},
		{"target", Shape{100}, nil, 1, 30, Shape{25}},
		{"target below an item", Shape{5, 2}, nil, 8, 1, Shape{1, 1}},
		{"target over the most", Shape{100 * mib}, nil, 1, 1 << 40, Shape{14979658}},
		{"three of 1.5", Shape{3, 3 * mib / 2}, nil, 1, 0, Shape{2, 3 * mib / 2}},
		{"large", Shape{1 << 20, 1 << 20, 1 << 10}, nil, 8, 0, Shape{1, 512, 1 << 10}},
		{"ones", Shape{1, 1, 1 << 23}, nil, 1, 0, Shape{1, 1, 4 * mib}},
		{"ones around", Shape{1, 1 << 23, 1}, nil, 1, 0, Shape{1, 4 * mib, 1}},
	} {
		if got := DefaultCell(tt.shape, tt.order, tt.itemSize, tt.target); !got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
