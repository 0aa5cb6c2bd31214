package client

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"ndferry/array"
)

// reused is a source that hands out its own memory, which the next call overwrites.
type reused struct {
	Array
	memory []byte
}

func (r *reused) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	data, err := r.Array.Cell(g, i, buf)
	if err != nil {
		return nil, err
	}
	r.memory = append(r.memory[:0], data...)
	return r.memory, nil
}

// TestHasher has more cells than places, and compares each cell when the next is read and its leaf at the end.
func TestHasher(t *testing.T) {
	const rows, columns = 1024, 2048
	a := Array{Shape: array.Shape{rows, columns}, Data: make([]byte, rows*columns)}
	a.DType, _ = array.ParseDType("|u1")
	r := rand.NewChaCha8([32]byte{1})
	r.Read(a.Data)
	for name, src := range map[string]Source{"memory": &a, "other": &reused{Array: a}} {
		for _, cell := range []array.Shape{{128, columns}, {256, 512}, {300, columns}} { // in place, gathered, padded
			u, err := newUpload("x", src, PutOptions{Digest: SHA256, Cell: cell, Codec: "none"})
			if err != nil {
				t.Fatal(err)
			}
			cells := newCells(u, make([]byte, u.size))
			if cells.hash == nil {
				t.Fatalf("%s, cells %v: hashed on the sending goroutine", name, cell)
			}
			var want [][32]byte
			for i := range u.grid.Len() {
				w := cells.next(i)
				if w.err != nil {
					t.Fatal(w.err)
				}
				raw, _ := a.Cell(u.grid, i, make([]byte, u.size))
				if !bytes.Equal(w.data, raw) {
					t.Fatalf("%s, cells %v: cell %d is another", name, cell, i)
				}
				want = append(want, sha256.Sum256(raw))
			}
			cells.stop()
			for i, leaf := range want {
				if !u.hashed[i] || u.leaves[i] != leaf {
					t.Errorf("%s, cells %v: leaf %d", name, cell, i)
				}
			}
		}
	}
}
