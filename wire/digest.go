package wire

import (
	"crypto/sha256"
	"strconv"

	"ndferry/array"
)

// RootOf is the root of digest sha256 over an array's description and the leaves of its cells, by cell number
// (spec/WIRE.md §5.7). A leaf is the SHA-256 of the cell's raw bytes, padding included.
func RootOf(m *array.Meta, leaves [][32]byte) [32]byte {
	b := append([]byte("ndferry root 1\n"), m.DType.String()...)
	order := m.Order
	if order == nil {
		order = array.COrder(len(m.Shape))
	}
	for _, list := range [][]int{m.Shape, m.Cell, order} {
		b = append(b, '\n')
		for i, n := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(n), 10)
		}
	}
	h := sha256.New()
	h.Write(append(b, '\n'))
	for i := range leaves {
		h.Write(leaves[i][:])
	}
	return [32]byte(h.Sum(nil))
}
