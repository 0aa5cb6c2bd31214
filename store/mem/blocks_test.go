package mem

import "testing"

// TestBlocks takes back what it gave, of the same size only, and keeps a bounded number of bytes.
func TestBlocks(t *testing.T) {
	var b blocks
	p := b.take(100)
	b.put(p)
	if q := b.take(99); &q[0] == &p[0] || len(q) != 99 {
		t.Errorf("%d bytes of a block of another size", len(q))
	}
	if q := b.take(100); &q[0] != &p[0] || len(q) != 100 || b.size != 0 {
		t.Errorf("%d bytes, not those that were put back, or %d are left", len(q), b.size)
	}
	if q := b.take(100); &q[0] == &p[0] {
		t.Error("one block was given twice")
	}
	for size := 1; size < smallest; size += 1000 {
		b.put(make([]byte, size))
		b.put(make([]byte, size))
		total := 0
		for _, kept := range b.of {
			for _, p := range kept {
				total += len(p)
			}
		}
		if total != b.size || total > maxBlocks {
			t.Fatalf("%d bytes are kept and %d counted, the most is %d", total, b.size, maxBlocks)
		}
	}
}
