package client

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ndferry/array"
)

// npyArray is a random array, its grid, and the .npy file of it.
type npyArray struct {
	Array
	grid array.Grid
	file []byte
}

func (a *npyArray) stat() *Stat {
	order := a.Order
	if order == nil {
		order = array.COrder(len(a.Shape))
	}
	return &Stat{DType: a.DType, Shape: a.Shape, Order: order}
}

// newNPYArray makes an array in C or Fortran order with a grid in that order.
func newNPYArray(t testing.TB, dtype string, shape, cell array.Shape, fortran bool) *npyArray {
	t.Helper()
	a := &npyArray{}
	var err error
	if a.DType, err = array.ParseDType(dtype); err != nil {
		t.Fatal(err)
	}
	a.Shape = shape
	if fortran {
		a.Order = array.FOrder(len(shape))
	}
	if cell == nil {
		cell = array.DefaultCell(shape, a.Order, a.DType.ItemSize(), MinChunk)
	}
	if a.grid, err = array.NewGrid(shape, cell, a.Order); err != nil {
		t.Fatal(err)
	}
	a.Data = make([]byte, a.grid.Elements()*a.DType.ItemSize())
	random := rand.NewChaCha8([32]byte{1})
	random.Read(a.Data)
	a.file = append(array.AppendNPYHeader(nil, a.DType, shape, fortran && !a.Order.IsC()), a.Data...)
	return a
}

// cellsOf compares every cell of src with the same cell of the array in memory.
func (a *npyArray) cellsOf(t testing.TB, src Source) {
	t.Helper()
	size := a.grid.CellElements() * a.DType.ItemSize()
	want, buf := make([]byte, size), make([]byte, size)
	for i := range a.grid.Len() {
		a.grid.Gather(want, a.Data, i)
		rand.NewChaCha8([32]byte{2}).Read(buf) // padding must be written
		got, err := src.Cell(a.grid, i, buf)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("cell %d of %v in %v: %v, equal %v", i, a.Shape, a.grid.Cell(), err, bytes.Equal(got, want))
		}
	}
}

// fill gives all cells to a sink, in the order given.
func (a *npyArray) fill(t testing.TB, sink Sink, cells []int) error {
	t.Helper()
	if err := sink.Begin(a.stat(), a.grid); err != nil {
		return err
	}
	buf := make([]byte, a.grid.CellElements()*a.DType.ItemSize())
	for _, i := range cells {
		a.grid.Gather(buf, a.Data, i)
		if err := sink.Cell(i, buf); err != nil {
			return err
		}
	}
	return nil
}

func upTo(n int) []int {
	cells := make([]int, n)
	for i := range cells {
		cells[i] = i
	}
	return cells
}

// TestNPYFiles reads and writes files of any shape, order and grid, with cells
// in any order, and with runs shorter and longer than the window.
func TestNPYFiles(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		ndim := rapid.IntRange(0, 3).Draw(r, "ndim")
		shape, cell := make(array.Shape, ndim), make(array.Shape, ndim)
		for axis := range shape {
			shape[axis] = rapid.IntRange(0, 40).Draw(r, "n")
			cell[axis] = rapid.IntRange(1, 41).Draw(r, "c")
		}
		a := newNPYArray(t, rapid.SampledFrom([]string{"|u1", "<f4", ">c16"}).Draw(r, "dtype"), shape, cell, rapid.Bool().Draw(r, "fortran"))
		path := filepath.Join(dir, "a.npy")
		sink, err := CreateNPY(path, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(a.fill(t, sink, rapid.Permutation(upTo(a.grid.Len())).Draw(r, "cells")), sink.Commit(), sink.Close()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, a.file) {
			t.Fatalf("%v in cells %v order %v: the file is another, %v", shape, cell, a.Order, err)
		}
		src, err := OpenNPY(path)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		a.cellsOf(t, src)
	})
	onlyFile(t, dir, "a.npy")
}

// onlyFile fails when there is anything but name in dir; "" for nothing at all.
func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// TestNPYOtherOrder writes an array whose axes are neither in C nor in Fortran
// order: the file is in C order.
func TestNPYOtherOrder(t *testing.T) {
	shape, order := array.Shape{3, 50, 70}, array.Order{1, 2, 0}
	grid, err := array.NewGrid(shape, array.Shape{3, 20, 70}, order)
	if err != nil {
		t.Fatal(err)
	}
	c := newNPYArray(t, "<i2", shape, nil, false)
	moved := make([]byte, len(c.Data))
	for x := range 3 {
		for y := range 50 {
			for z := range 70 {
				copy(moved[2*((y*70+z)*3+x):][:2], c.Data[2*((x*50+y)*70+z):])
			}
		}
	}
	a := &npyArray{Array: Array{DType: c.DType, Shape: shape, Order: order, Data: moved}, grid: grid}
	path := filepath.Join(t.TempDir(), "a.npy")
	sink, err := CreateNPY(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.fill(t, sink, []int{2, 0, 1}), sink.Commit()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, c.file) {
		t.Fatalf("not the array in C order, %v", err)
	}
	err = a.fill(t, &NPYWriter{W: io.Discard}, []int{0, 1, 2})
	if err == nil || !strings.Contains(err.Error(), "use a file") {
		t.Errorf("streamed: %v", err)
	}
}

// TestNPYStreams reads from and writes to what cannot seek.
func TestNPYStreams(t *testing.T) {
	for _, a := range []*npyArray{
		newNPYArray(t, "<f8", array.Shape{}, nil, false),
		newNPYArray(t, "<f8", array.Shape{0, 3}, nil, false),
		newNPYArray(t, "<f8", array.Shape{1000, 77}, nil, false),
		newNPYArray(t, ">i2", array.Shape{30, 40, 500}, nil, true),
		newNPYArray(t, "|u1", array.Shape{3, 200_000}, array.Shape{1, 70_000}, false),
	} {
		src, err := NewNPYStream(bytes.NewReader(a.file))
		if err != nil {
			t.Fatal(err)
		}
		a.cellsOf(t, src)
		var out bytes.Buffer
		if err := a.fill(t, &NPYWriter{W: &out}, upTo(a.grid.Len())); err != nil || !bytes.Equal(out.Bytes(), a.file) {
			t.Errorf("%v: written %d of %d bytes, or others: %v", a.Shape, out.Len(), len(a.file), err)
		}
	}

	columns := newNPYArray(t, "<f8", array.Shape{100, 100}, array.Shape{100, 10}, false)
	src, err := NewNPYStream(bytes.NewReader(columns.file))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Cell(columns.grid, 0, make([]byte, 8000)); !errors.Is(err, errStream) {
		t.Errorf("columns read from a stream: %v", err)
	}
	if err := columns.fill(t, &NPYWriter{W: io.Discard}, upTo(10)); !errors.Is(err, errStream) {
		t.Errorf("columns written to a stream: %v", err)
	}
	rows := newNPYArray(t, "<f8", array.Shape{100, 100}, array.Shape{10, 100}, false)
	if err := rows.fill(t, &NPYWriter{W: io.Discard}, []int{1, 0}); !errors.Is(err, errStream) {
		t.Errorf("cells out of order written to a stream: %v", err)
	}
}

// TestNPYLength holds the length of files and streams to their headers.
func TestNPYLength(t *testing.T) {
	a := newNPYArray(t, "<f4", array.Shape{40_000}, nil, false)
	path := filepath.Join(t.TempDir(), "a.npy")
	buf := make([]byte, a.grid.CellElements()*4)
	for _, n := range []int{0, 9, 60, 128, 129, len(a.file) - 1, len(a.file) + 1} {
		file := append(a.file[:min(n, len(a.file)):min(n, len(a.file))], make([]byte, max(0, n-len(a.file)))...)
		if err := os.WriteFile(path, file, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenNPY(path); !errors.Is(err, array.ErrNPY) {
			t.Errorf("a file of %d bytes: %v", n, err)
		}
		src, err := NewNPYStream(bytes.NewReader(file))
		for i := 0; err == nil && i < a.grid.Len(); i++ {
			_, err = src.Cell(a.grid, i, buf)
		}
		if !errors.Is(err, array.ErrNPY) {
			t.Errorf("a stream of %d bytes: %v", n, err)
		}
	}

	if err := os.WriteFile(path, a.file, 0o666); err != nil {
		t.Fatal(err)
	}
	src, err := OpenNPY(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := os.Truncate(path, int64(len(a.file)-1)); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Cell(a.grid, a.grid.Len()-1, buf); err == nil || !strings.Contains(err.Error(), "shrank") {
		t.Errorf("a file that shrank: %v", err)
	}
}

// TestNPYSinkEnds gives files up and meets names that are taken.
func TestNPYSinkEnds(t *testing.T) {
	a := newNPYArray(t, "<f4", array.Shape{10}, nil, false)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.npy")
	sink, err := CreateNPY(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.fill(t, sink, upTo(1)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sink.Close(), sink.Close()); err != nil {
		t.Error(err)
	}
	onlyFile(t, dir, "")

	// The name is taken after the beginning.
	if sink, err = CreateNPY(path, false); err != nil {
		t.Fatal(err)
	}
	if err := a.fill(t, sink, upTo(1)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("other"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := sink.Commit(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Commit over a new file: %v", err)
	}
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
	onlyFile(t, dir, "a.npy")
	if _, err := CreateNPY(path, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateNPY over a file: %v", err)
	}
	if _, err := CreateNPY(dir, true); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateNPY over a directory: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "other" {
		t.Errorf("the other file: %q, %v", got, err)
	}
}
