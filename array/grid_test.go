package array

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// reference lists, for each byte of cell i, the offset of that byte in the
// whole array, or -1 for padding, one element at a time.
func reference(g Grid, i, itemSize int) []int {
	shape, cell, order := g.Shape(), g.Cell(), g.Order()
	r := g.Region(i)
	n := len(shape)
	out := make([]int, 0, g.CellElements()*itemSize)
	at := make([]int, n) // coordinates within the cell, stored axes
	for range g.CellElements() {
		off, inside := 0, true
		for k, axis := range order {
			x := r.Start[axis] + at[k]
			inside = inside && at[k] < r.Count[axis]
			off = off*shape[axis] + x
		}
		for b := range itemSize {
			if inside {
				out = append(out, off*itemSize+b)
			} else {
				out = append(out, -1)
			}
		}
		for k := n - 1; k >= 0; k-- {
			if at[k]++; at[k] < cell[order[k]] {
				break
			}
			at[k] = 0
		}
	}
	return out
}

// checkGrid checks everything that holds for every grid.
func checkGrid(t failer, g Grid, itemSize int) {
	t.Helper()
	elements, err := g.Shape().Elements()
	if err != nil {
		t.Fatal(err)
	}
	src := make([]byte, elements*itemSize)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range src {
		src[i] = byte(1 + rng.IntN(255))
	}
	dst := make([]byte, len(src))
	covered := make([]bool, len(src))
	cell := make([]byte, g.CellElements()*itemSize)
	seen := make([]bool, g.Len())
	for i := range g.Len() {
		where := reference(g, i, itemSize)
		for b := range cell {
			cell[b] = 0xee
		}
		g.Gather(cell, src, i)
		padding := -1
		for b, off := range where {
			if off < 0 {
				padding = b
				if cell[b] != 0 {
					t.Fatalf("cell %d: padding byte %d is %#x", i, b, cell[b])
				}
				continue
			}
			if covered[off] {
				t.Fatalf("cell %d: byte %d is covered twice", i, off)
			}
			covered[off] = true
			if cell[b] != src[off] {
				t.Fatalf("cell %d: byte %d is %#x, want %#x", i, b, cell[b], src[off])
			}
		}
		checkContiguous(t, g, i, itemSize, where)
		if !g.PaddingIsZero(cell, i) {
			t.Fatalf("cell %d: padding reported as not zero", i)
		}
		if padding >= 0 {
			cell[padding] = 1
			if g.PaddingIsZero(cell, i) {
				t.Fatalf("cell %d: padding byte %d is not seen", i, padding)
			}
		}
		g.Scatter(dst, cell, i)
		l := g.LogicalIndex(i)
		if g.StoredIndex(l) != i || seen[l] {
			t.Fatalf("cell %d: logical %d, back %d", i, l, g.StoredIndex(l))
		}
		seen[l] = true
	}
	if slices.Contains(covered, false) || !bytes.Equal(dst, src) {
		t.Fatal("not every element is covered")
	}
	if g.Slabs() {
		checkSlabs(t, g)
	}
}

// checkSlabs checks that the cells one after the other are the padded array.
func checkSlabs(t failer, g Grid) {
	t.Helper()
	padded, err := NewGrid(g.PaddedShape(), g.Cell(), g.Order())
	if err != nil {
		t.Fatal(err)
	}
	for i := range padded.Len() {
		off, n, ok := padded.Contiguous(i)
		if !ok || n != g.CellElements() || off != i*n {
			t.Fatalf("slab %d at %d, %d elements, %v", i, off, n, ok)
		}
	}
}

// checkContiguous checks Contiguous(i) against the reference.
func checkContiguous(t failer, g Grid, i, itemSize int, where []int) {
	t.Helper()
	off, n, ok := g.Contiguous(i)
	want := g.Region(i).Elements()
	run := 0
	for run < len(where) && where[run] == where[0]+run {
		run++
	}
	if isRun := run == want*itemSize; ok != isRun {
		t.Fatalf("cell %d: contiguous %v, want %v", i, ok, isRun)
	}
	if ok && (n != want || off*itemSize != where[0]) {
		t.Fatalf("cell %d: %d elements at %d, want %d at byte %d", i, n, off, want, where[0])
	}
}

func TestGrid_regions(t *testing.T) {
	g, err := NewGrid(Shape{4, 5}, Shape{2, 3}, FOrder(2))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"[0:2, 0:3]", "[2:4, 0:3]", "[0:2, 3:5]", "[2:4, 3:5]"}
	for i, w := range want {
		if got := g.Region(i).String(); got != w {
			t.Errorf("cell %d: %s, want %s", i, got, w)
		}
	}
	if got := g.PaddedShape(); !got.Equal(Shape{4, 6}) {
		t.Errorf("padded %v", got)
	}
	if g.StoredIndex(1) != 2 || g.LogicalIndex(1) != 2 || g.Index(Shape{1, 0}) != 1 {
		t.Error("the numbers of the cells are wrong")
	}
}

func TestGrid_shapes(t *testing.T) {
	for _, tt := range []struct {
		shape, cell Shape
		order       Order
		cells       int
		slabs       bool
	}{
		{Shape{}, Shape{}, nil, 1, true},
		{Shape{0}, Shape{1}, nil, 0, true},
		{Shape{3, 0, 2}, Shape{3, 1, 2}, nil, 0, true},
		{Shape{1}, Shape{1}, nil, 1, true},
		{Shape{7}, Shape{3}, nil, 3, true},
		{Shape{5, 4, 3}, Shape{1, 3, 3}, nil, 10, true},
		{Shape{5, 4, 3}, Shape{2, 4, 3}, nil, 3, true},
		{Shape{5, 4, 3}, Shape{2, 2, 3}, nil, 6, false},
		{Shape{5, 4, 3}, Shape{5, 2, 2}, Order{1, 2, 0}, 4, false},
		{Shape{5, 4, 3}, Shape{5, 1, 2}, Order{1, 2, 0}, 8, true},
		{Shape{5, 4, 3}, Shape{7, 9, 4}, Order{2, 0, 1}, 1, true},
		{Shape{2, 3}, Shape{2, 5}, nil, 1, true},
	} {
		t.Run(fmt.Sprint(tt.shape, tt.cell, tt.order), func(t *testing.T) {
			g, err := NewGrid(tt.shape, tt.cell, tt.order)
			if err != nil {
				t.Fatal(err)
			}
			if g.Len() != tt.cells || g.Slabs() != tt.slabs {
				t.Errorf("%d cells, slabs %v", g.Len(), g.Slabs())
			}
			for _, itemSize := range []int{1, 2, 8, 16} {
				checkGrid(t, g, itemSize)
			}
		})
	}
}

func TestGrid_property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 4).Draw(t, "ndim")
		shape := Shape(rapid.SliceOfN(rapid.IntRange(0, 5), n, n).Draw(t, "shape"))
		cell := Shape(rapid.SliceOfN(rapid.IntRange(1, 5), n, n).Draw(t, "cell"))
		order := Order(rapid.Permutation(COrder(n)).Draw(t, "order"))
		g, err := NewGrid(shape, cell, order)
		if err != nil {
			t.Fatal(err)
		}
		checkGrid(t, g, rapid.SampledFrom([]int{1, 2, 4, 8, 16}).Draw(t, "itemsize"))
	})
}

func FuzzGridRoundTrip(f *testing.F) {
	f.Add([]byte{}, []byte{}, []byte{}, uint8(4))
	f.Add([]byte{5}, []byte{2}, []byte{0}, uint8(8))
	f.Add([]byte{3, 0, 2}, []byte{3, 1, 2}, []byte{1, 0, 0}, uint8(1))
	f.Add([]byte{5, 4, 3}, []byte{2, 3, 2}, []byte{2, 1, 0}, uint8(2))
	f.Add([]byte{4, 4, 4, 4}, []byte{1, 3, 4, 4}, []byte{1, 1, 1, 0}, uint8(16))
	f.Add([]byte{1, 1, 1, 1, 1, 1, 1, 1, 9}, []byte{1, 1, 1, 1, 1, 1, 1, 1, 2}, []byte{0, 7}, uint8(4))
	f.Add([]byte("\x0000000000"), []byte(" 00\xd1\xd1\xd1\xd1\xd1x"), []byte("0"), uint8('B'))
	f.Fuzz(func(t *testing.T, dims, cells, picks []byte, itemSize uint8) {
		n := min(len(dims), len(cells), MaxDims)
		shape, cell, order := make(Shape, n), make(Shape, n), COrder(n)
		for i := range n {
			shape[i], cell[i] = int(dims[i]), int(cells[i])
			if i < len(picks) {
				j := i + int(picks[i])%(n-i)
				order[i], order[j] = order[j], order[i]
			}
		}
		g, err := NewGrid(shape, cell, order)
		if err != nil {
			return
		}
		size := int(itemSize)%16 + 1
		padded, err := g.PaddedShape().Bytes(size)
		if err != nil || padded > 1<<14 || g.CellElements() > 1<<14/size {
			return // the reference is slow
		}
		checkGrid(t, g, size)
	})
}

// TestDefaultCell_property holds DefaultCell to the words of its rule.
func TestDefaultCell_property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(t, "ndim")
		shape := Shape(rapid.SliceOfN(rapid.IntRange(0, 20), n, n).Draw(t, "shape"))
		order := Order(rapid.Permutation(COrder(n)).Draw(t, "order"))
		itemSize := rapid.SampledFrom([]int{1, 2, 4, 8, 16}).Draw(t, "itemsize")
		target := rapid.IntRange(1, 4096).Draw(t, "target")
		cell := DefaultCell(shape, order, itemSize, target)

		// The rule, literally: slabs from the outside, the first that fits.
		want := make(Shape, n)
		for i := range want {
			want[i] = 1
		}
		for k, axis := range order {
			s := itemSize
			for _, in := range order[k+1:] {
				s *= max(shape[in], 1)
			}
			if s > target && k < n-1 {
				continue
			}
			slabs := max(shape[axis], 1)
			m := ceilDiv(slabs, max(1, target/s))
			want[axis] = ceilDiv(slabs, m)
			for _, in := range order[k+1:] {
				want[in] = max(shape[in], 1)
			}
			break
		}
		if !cell.Equal(want) {
			t.Fatalf("%v, want %v", cell, want)
		}
		g, err := NewGrid(shape, cell, order)
		if err != nil {
			t.Fatal(err)
		}
		if !g.Slabs() {
			t.Fatalf("cells %v are not slabs", cell)
		}
		if size, _ := cell.Bytes(itemSize); size > max(target, itemSize) {
			t.Fatalf("cells %v have %d bytes", cell, size)
		}
		for i := range min(g.Len(), 100) {
			if _, _, ok := g.Contiguous(i); !ok {
				t.Fatalf("cell %d is not contiguous", i)
			}
		}
	})
}

func benchmarkCopy(b *testing.B, copyCell func(g Grid, cell, whole []byte, i int)) {
	for _, bb := range []struct {
		name        string
		shape, cell Shape
		order       Order
		itemSize    int
	}{
		{"slab", Shape{16, 1024, 1024}, Shape{1, 1024, 1024}, nil, 4},
		{"slab/fortran", Shape{1024, 1024, 16}, Shape{1024, 1024, 1}, FOrder(3), 4},
		{"block/rows=2KiB", Shape{4096, 4096}, Shape{2048, 512}, nil, 4},
		{"block/rows=64B", Shape{2048, 32, 256}, Shape{2048, 32, 16}, nil, 4},
		{"column/4B/cached", Shape{256, 256}, Shape{256, 1}, nil, 4},
		{"column/4B", Shape{4096, 4096}, Shape{4096, 1}, nil, 4},
		{"padded", Shape{4000, 4000}, Shape{2048, 512}, nil, 4},
	} {
		b.Run(bb.name, func(b *testing.B) {
			g, err := NewGrid(bb.shape, bb.cell, bb.order)
			if err != nil {
				b.Fatal(err)
			}
			whole := make([]byte, g.Elements()*bb.itemSize)
			for i := range whole {
				whole[i] = byte(i)
			}
			cell := bytes.Repeat([]byte{1}, g.CellElements()*bb.itemSize)
			b.SetBytes(int64(len(cell)))
			i := 0
			for b.Loop() {
				copyCell(g, cell, whole, i)
				i = (i + 1) % g.Len()
			}
		})
	}
}

func BenchmarkGather(b *testing.B) {
	benchmarkCopy(b, func(g Grid, cell, whole []byte, i int) { g.Gather(cell, whole, i) })
}

func BenchmarkScatter(b *testing.B) {
	benchmarkCopy(b, func(g Grid, cell, whole []byte, i int) { g.Scatter(whole, cell, i) })
}

func BenchmarkPaddingIsZero(b *testing.B) {
	g, err := NewGrid(Shape{1, 1}, Shape{1024, 4096}, nil)
	if err != nil {
		b.Fatal(err)
	}
	cell := make([]byte, g.CellElements())
	b.SetBytes(int64(len(cell)))
	for b.Loop() {
		if !g.PaddingIsZero(cell, 0) {
			b.Fatal("not zero")
		}
	}
}

// BenchmarkCopy is the ceiling for Gather and Scatter: memmove of one 4 MiB
// cell out of 64 MiB.
func BenchmarkCopy(b *testing.B) {
	whole, cell := make([]byte, 64<<20), make([]byte, 4<<20)
	for i := range whole {
		whole[i] = byte(i)
	}
	b.SetBytes(int64(len(cell)))
	i := 0
	for b.Loop() {
		copy(cell, whole[i*len(cell):])
		i = (i + 1) % 16
	}
}
