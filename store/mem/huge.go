package mem

import "time"

// hugePage is the size of a large page where arrays are received into.
const hugePage = 2 << 20

// Taking memory one small page at a time, as bytes arrive, is the slowest part of a put that finds nothing in the pool: 1.6 GB/s, and 7
// to 16 GB/s with large pages. So the pages that a cell belongs to are made large before it is received. Where that pays nothing, since
// the host of a virtual machine must find the memory, or memory is fragmented, it is left out more and more often.
const (
	slowPage  = time.Millisecond     // a large page that took so long was no gain
	longReady = 2 * time.Millisecond // one call takes no longer, but for its last page
	maxLeft   = 6                    // at most 2^6 - 1 pages are left out
)

// huge is which large pages of a mapping need nothing any more.
type huge struct {
	done   []uint64
	missed uint // pages that were no gain, in a row, at most maxLeft
	skip   int  // pages to be left out
}

// ready prepares bytes from to to of the mapping for being written to.
func (r *region) ready(from, to int) {
	h := &r.pages
	last := len(r.mem) / hugePage
	if h.done == nil {
		h.done = make([]uint64, (last+63)/64)
	}
	var began time.Time
	for i := from / hugePage; i < min((to+hugePage-1)/hugePage, last); i++ {
		if has(h.done, i) {
			continue
		}
		h.done[i/64] |= 1 << (i % 64)
		if h.skip > 0 {
			h.skip--
			continue
		}
		start := time.Now()
		if began.IsZero() {
			began = start
		} else if start.Sub(began) > longReady {
			continue
		}
		err := makeHuge(r.mem[i*hugePage:][:hugePage])
		took := time.Since(start)
		if err == nil && took <= slowPage {
			h.missed = 0
			continue
		}
		if h.missed++; h.missed > maxLeft || took > 10*slowPage {
			h.missed = maxLeft
		}
		h.skip = 1<<h.missed - 1
	}
}
