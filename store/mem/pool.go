package mem

import (
	"slices"
	"time"
)

// pool keeps mappings that no array uses. It is not safe for concurrent use: the store's mutex guards it.
type pool struct {
	limit int64
	size  int64  // of what it keeps
	kept  []idle // oldest first
}

// idle is a mapping that no array uses.
type idle struct {
	*region
	since time.Time
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
	r := p.kept[best].region
	p.kept = slices.Delete(p.kept, best, best+1)
	p.size -= int64(len(r.mem))
	if err := r.shrink(size); err != nil {
		_ = r.free()
		return nil
	}
	return r
}

// put keeps a mapping, and frees the oldest when there are too many.
func (p *pool) put(r *region, now time.Time) {
	p.kept = append(p.kept, idle{r, now})
	p.size += int64(len(r.mem))
	p.shrinkTo(p.limit)
}

// shrinkTo frees the oldest mappings until at most limit bytes are kept.
func (p *pool) shrinkTo(limit int64) {
	for p.size > limit {
		p.freeOldest()
	}
}

// expire frees the mappings that were kept since before.
func (p *pool) expire(before time.Time) {
	for len(p.kept) > 0 && p.kept[0].since.Before(before) {
		p.freeOldest()
	}
}

func (p *pool) freeOldest() {
	r := p.kept[0].region
	p.kept = slices.Delete(p.kept, 0, 1)
	p.size -= int64(len(r.mem))
	_ = r.free()
}
