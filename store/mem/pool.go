package mem

import "slices"

// pool keeps mappings that no array uses. It is not safe for concurrent use: the store's mutex guards it.
type pool struct {
	limit int64
	size  int64     // of what it keeps
	kept  []*region // oldest first
}

// take returns a kept mapping of exactly size bytes, cut from the smallest that is at most twice as large; nil when there is none.
func (p *pool) take(size int) *region {
	best := -1
	for i, r := range p.kept {
		if len(r.mem) >= size && len(r.mem)/2 <= size && (best < 0 || len(r.mem) < len(p.kept[best].mem)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	r := p.kept[best]
	p.kept = slices.Delete(p.kept, best, best+1)
	p.size -= int64(len(r.mem))
	if err := r.shrink(size); err != nil {
		_ = r.free()
		return nil
	}
	return r
}

// put keeps a mapping, and frees the oldest when there are too many.
func (p *pool) put(r *region) {
	p.kept = append(p.kept, r)
	p.size += int64(len(r.mem))
	p.shrinkTo(p.limit)
}

// shrinkTo frees the oldest mappings until at most limit bytes are kept.
func (p *pool) shrinkTo(limit int64) {
	for p.size > limit {
		r := p.kept[0]
		p.kept = slices.Delete(p.kept, 0, 1)
		p.size -= int64(len(r.mem))
		_ = r.free()
	}
}
