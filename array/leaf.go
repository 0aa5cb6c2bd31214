package array

import (
	"crypto/sha256"
	"runtime"
)

// leafPiece is how much is hashed before other goroutines may have the processor: some 130 µs of work. Otherwise who only has to
// pass bytes on, as a sender beside the hashing, waits until the end of a cell.
const leafPiece = 256 << 10

// Leaf is the SHA-256 of the raw bytes of a cell, padding included (spec/WIRE.md §5.7).
func Leaf(cell []byte) [32]byte {
	if len(cell) <= leafPiece {
		return sha256.Sum256(cell)
	}
	h := sha256.New()
	for len(cell) > leafPiece {
		h.Write(cell[:leafPiece])
		cell = cell[leafPiece:]
		runtime.Gosched()
	}
	h.Write(cell)
	return [32]byte(h.Sum(nil))
}
