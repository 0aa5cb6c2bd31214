package mem

// maxBlocks bounds the bytes that blocks keeps.
const maxBlocks = 1 << 20

// blocks keeps the memory of small arrays that were replaced or deleted for the next of the same size: who puts small arrays puts many, and
// the collector would run for each few hundred. It is not safe for concurrent use: the store's mutex guards it.
type blocks struct {
	of   map[int][][]byte // by size
	size int              // bytes of all
}

// take returns size bytes, with whatever was in them.
func (b *blocks) take(size int) []byte {
	kept := b.of[size]
	if len(kept) == 0 {
		return make([]byte, size)
	}
	last := len(kept) - 1
	p := kept[last]
	kept[last] = nil
	b.of[size] = kept[:last]
	b.size -= size
	return p
}

// put keeps p, which nobody uses any more. When there are too many all others are forgotten: they may be of sizes that do not come again.
func (b *blocks) put(p []byte) {
	if b.of == nil || b.size+len(p) > maxBlocks {
		b.of, b.size = map[int][][]byte{}, 0
	}
	b.of[len(p)] = append(b.of[len(p)], p)
	b.size += len(p)
}
