package array

import (
	"crypto/sha256"
	"strconv"
)

// RootPrefix begins what the root of a sha256 digest is computed over: it keeps roots apart from leaves.
const RootPrefix = "ndferry root 1\n"

// Root is the digest sha256 of an array (spec/WIRE.md §5.7): SHA-256 over its description and the leaves of its cells, by cell
// number. A leaf is the SHA-256 of the cell's raw bytes, padding included.
func (m *Meta) Root(leaves [][32]byte) [32]byte {
	b := append([]byte(RootPrefix), m.DType.String()...)
	for _, list := range [][]int{m.Shape, m.Cell, m.Order.resolved(len(m.Shape))} {
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
