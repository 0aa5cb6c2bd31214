package array

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestRuns puts a cell together from its runs, and takes it apart into them, in
// every memory order, and compares with Gather of an array in the grid's order.
func TestRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ndim := rapid.IntRange(0, 4).Draw(t, "ndim")
		shape, cell := make(Shape, ndim), make(Shape, ndim)
		for axis := range shape {
			shape[axis] = rapid.IntRange(1, 6).Draw(t, "n")
			cell[axis] = rapid.IntRange(1, 7).Draw(t, "c")
		}
		order := Order(rapid.Permutation(COrder(ndim)).Draw(t, "order"))
		other := Order(rapid.Permutation(COrder(ndim)).Draw(t, "other"))
		g, err := NewGrid(shape, cell, order)
		if err != nil {
			t.Fatal(err)
		}
		// Every element is its number in C order of the logical axes.
		inOrder, inOther := numbered(shape, order), numbered(shape, other)
		back := make([]byte, len(inOther))
		for i := range g.Len() {
			want := make([]byte, g.CellElements())
			g.Gather(want, inOrder, i)
			got := make([]byte, g.CellElements())
			total := 0
			g.Runs(i, other, func(r Run) bool {
				if r.Len != g.RunLen(i, other) {
					t.Fatalf("a run of %d among runs of %d", r.Len, g.RunLen(i, other))
				}
				copy(got[r.Cell:][:r.Len], inOther[r.Array:][:r.Len])
				copy(back[r.Array:][:r.Len], want[r.Cell:][:r.Len])
				total += r.Len
				return true
			})
			if !bytes.Equal(got, want) || total != g.Region(i).Elements() {
				t.Fatalf("%v cells %v order %v from %v, cell %d: got %v in %d elements, want %v", shape, cell, order, other, i, got, total, want)
			}
			calls := 0
			g.Runs(i, other, func(Run) bool { calls++; return false })
			if calls != 1 {
				t.Fatalf("%d runs after the first was refused", calls)
			}
		}
		if !bytes.Equal(back, inOther) {
			t.Fatalf("the runs of all cells are not the array: %v, want %v", back, inOther)
		}
	})
}

// numbered returns an array in a memory order whose elements are the low bytes
// of their numbers in C order, from 1.
func numbered(shape Shape, order Order) []byte {
	n, _ := shape.Elements()
	out := make([]byte, n)
	at := make([]int, len(shape))
	for i := range out {
		rest := i
		for k := len(order) - 1; k >= 0; k-- {
			at[order[k]] = rest % shape[order[k]]
			rest /= shape[order[k]]
		}
		number := 0
		for axis, x := range at {
			number = number*shape[axis] + x
		}
		out[i] = byte(number + 1)
	}
	return out
}
