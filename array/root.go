package array

import (
	"crypto/sha256"
	"hash"
	"strconv"
)

// RootPrefix begins what the root of a sha256 digest is computed over: it keeps roots apart from leaves.
const RootPrefix = "ndferry root 1\n"

// NewRoot returns the hash of the digest sha256 of an array (spec/WIRE.md §5.7), begun with its description: the leaves of all cells
// are to be written to it, by cell number. A leaf is the SHA-256 of the cell's raw bytes, padding included.
func (m *Meta) NewRoot() hash.Hash {
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
	return h
}

// Root is the digest of an array whose leaves are at hand.
func (m *Meta) Root(leaves [][32]byte) [32]byte {
	h := m.NewRoot()
	for i := range leaves {
		h.Write(leaves[i][:])
	}
	return [32]byte(h.Sum(nil))
}
