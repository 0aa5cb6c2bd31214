package mem

import (
	"time"

	"ndferry/internal/sysmem"
)

const (
	idleLife  = time.Minute            // how long a mapping that no array uses is kept
	tidyEvery = 250 * time.Millisecond // between two looks at what is kept
	maxSpare  = 1 << 30                // bytes of available memory that are enough on any machine
	leastPart = 32                     // that part of a smaller machine's memory is enough as well
)

// keepIdleLocked puts the mapping of an array that is gone into the pool.
func (s *Store) keepIdleLocked(r *region) {
	s.pool.put(r, s.now())
	if s.tidier == nil && len(s.pool.kept) > 0 {
		s.tidier = time.AfterFunc(tidyEvery, s.tidy)
	}
}

// tidy gives back what the pool has kept for long, or all of it when the machine has little memory left.
func (s *Store) tidy() {
	available := s.available()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tidier == nil { // closed
		return
	}
	s.pool.expire(s.now().Add(-idleLife))
	if isLittle(available) {
		s.pool.shrinkTo(0)
	}
	if len(s.pool.kept) == 0 {
		s.tidier = nil
		return
	}
	s.tidier.Reset(tidyEvery)
}

// isLittle tells whether so many bytes of available memory are few for this machine; 0 is not known. What is enough on any machine comes
// first: the size of this one is in several files.
func isLittle(available int64) bool {
	return 0 < available && available < maxSpare && available < sysmem.Total()/leastPart
}
