package codec

import (
	"math/rand/v2"
	"testing"
)

// TestLooksFlat sees that noise is told from what a code shortens.
func TestLooksFlat(t *testing.T) {
	const n, seeds = 64 << 10, 50
	noise, shorter := 0, 0
	for seed := range byte(seeds) {
		r := rand.NewChaCha8([32]byte{seed})
		b := make([]byte, n)
		r.Read(b)
		if looksFlat(b) {
			noise++
		}
		for i := 0; i < n; i += 16 { // a byte of 16 is one of 16 values: 7.85 bits a byte
			b[i] &= 15
		}
		if looksFlat(b) {
			shorter++
		}
	}
	if noise < seeds*9/10 || shorter > 0 {
		t.Errorf("of %d: %d of noise and %d of what is not look flat", seeds, noise, shorter)
	}
	if looksFlat(make([]byte, n)) || looksFlat(make([]byte, 100)) {
		t.Error("zeros look flat")
	}
}
