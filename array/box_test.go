package array

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A region read from the cells that TouchedBy names is the region of the array.
func TestGrid_region(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ndim := rapid.IntRange(0, 5).Draw(t, "ndim")
		shape, cell := make(Shape, ndim), make(Shape, ndim)
		r := Region{Start: make(Shape, ndim), Count: make(Shape, ndim)}
		for i := range ndim {
			shape[i] = rapid.IntRange(0, 7).Draw(t, "n")
			cell[i] = rapid.IntRange(1, 5).Draw(t, "c")
			r.Start[i] = rapid.IntRange(0, shape[i]).Draw(t, "start")
			r.Count[i] = rapid.IntRange(0, shape[i]-r.Start[i]).Draw(t, "count")
			if step := rapid.IntRange(-4, 4).Draw(t, "step"); step != 0 && r.Count[i] > 0 {
				if r.Step == nil {
					r.Step = slices.Repeat([]int{1}, ndim)
				}
				r.Step[i] = step
				room := shape[i] - 1 - r.Start[i]
				if step < 0 {
					room = r.Start[i]
				}
				r.Count[i] = min(r.Count[i], 1+room/max(step, -step))
			}
		}
		order := Order(rapid.Permutation([]int(COrder(ndim))).Draw(t, "order"))
		item := rapid.IntRange(1, 3).Draw(t, "item")
		g, err := NewGrid(shape, cell, order)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check(shape); err != nil {
			t.Fatal(err)
		}
		src := make([]byte, g.Elements()*item)
		for i := range src {
			src[i] = byte(i)
		}
		got := make([]byte, r.Elements()*item)
		touched := map[int]bool{}
		next := uint64(0)
		for _, run := range g.TouchedBy(r) {
			if run[1] == 0 || run[0] < next {
				t.Fatalf("runs %v", g.TouchedBy(r))
			}
			next = run[0] + run[1] + 1 // runs that touch are one
			for i := run[0]; i < run[0]+run[1]; i++ {
				touched[int(i)] = true
				buf := make([]byte, g.CellElements()*item)
				g.Gather(buf, src, int(i))
				g.ScatterRegion(got, r, buf, int(i))
			}
		}
		for i := range g.Len() {
			if needed := holds(g.Region(i), r); needed != touched[i] {
				t.Fatalf("cell %d: touched %v", i, touched[i])
			}
		}
		strides := g.strides(g.order, item)
		var want []byte
		at := make([]int, ndim)
		for range r.Elements() {
			off := 0
			for i := range at {
				off += (r.Start[i] + at[i]*r.step(i)) * strides[i]
			}
			want = append(want, src[off:off+item]...)
			for i := ndim - 1; i >= 0; i-- {
				if at[i]++; at[i] < r.Count[i] {
					break
				}
				at[i] = 0
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("region %v of %v in cells of %v, order %v: %x, want %x", r, shape, cell, order, got, want)
		}
	})
}

// Fill is what gathering a constant array gives.
func TestGrid_Fill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ndim := rapid.IntRange(0, 4).Draw(t, "ndim")
		shape, cell := make(Shape, ndim), make(Shape, ndim)
		for i := range ndim {
			shape[i] = rapid.IntRange(1, 7).Draw(t, "n")
			cell[i] = rapid.IntRange(1, 5).Draw(t, "c")
		}
		order := Order(rapid.Permutation([]int(COrder(ndim))).Draw(t, "order"))
		g, err := NewGrid(shape, cell, order)
		if err != nil {
			t.Fatal(err)
		}
		item := []byte{1, 2, 3}
		src := bytes.Repeat(item, g.Elements())
		for i := range g.Len() {
			got, want := bytes.Repeat([]byte{9}, g.CellElements()*3), make([]byte, g.CellElements()*3)
			g.Fill(got, i, item)
			g.Gather(want, src, i)
			if !bytes.Equal(got, want) {
				t.Fatalf("cell %d of %v in %v, order %v: %x, want %x", i, shape, cell, order, got, want)
			}
		}
	})
}

// holds reports, element by element, whether a box has one of the region.
func holds(part, r Region) bool {
	for axis := range r.Count {
		found := false
		for k := range r.Count[axis] {
			at := r.Start[axis] + k*r.step(axis)
			found = found || at >= part.Start[axis] && at < part.Start[axis]+part.Count[axis]
		}
		if !found {
			return false
		}
	}
	return true
}
