package array

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

func TestLeaf(t *testing.T) {
	data := make([]byte, 3*leafPiece+1)
	rand.NewChaCha8([32]byte{2}).Read(data)
	for _, n := range []int{0, 1, leafPiece - 1, leafPiece, leafPiece + 1, 2 * leafPiece, len(data)} {
		if Leaf(data[:n]) != sha256.Sum256(data[:n]) {
			t.Errorf("the leaf of %d bytes is not their SHA-256", n)
		}
	}
}
