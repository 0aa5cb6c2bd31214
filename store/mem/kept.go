package mem

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"ndferry/store"
)

// keptLife is how long an upload that was closed waits for its client to come back.
const keptLife = 48 * time.Hour

// keepLocked puts a closed upload aside for a Begin with Resume. u.mu and Store.mu are held.
func (s *Store) keepLocked(u *upload) {
	u.closed = s.now()
	s.kept[u.a.info.ID] = u
}

// takeKeptLocked returns the upload that was put aside for spec, as a new handle that has what was synced, or nil when there is
// none. One that is not to be resumed is forgotten; ErrConflict when the id was that of another array.
func (s *Store) takeKeptLocked(spec *store.Spec) (*upload, error) {
	old := s.kept[spec.ID]
	switch {
	case old == nil:
		return nil, nil
	case !spec.Resume:
		delete(s.kept, spec.ID)
		s.releaseLocked(old.a)
		return nil, nil
	case !store.SameArray(spec, &old.a.info.Spec):
		return nil, fmt.Errorf("%w: transfer %x is of another array", store.ErrConflict, spec.ID[:])
	}
	delete(s.kept, spec.ID)
	old.a.info.IfAbsent = spec.IfAbsent
	u := &upload{s: s, a: old.a, maximum: old.maximum, have: old.synced, synced: slices.Clone(old.synced)}
	for _, word := range u.have {
		u.written += bits.OnesCount64(word)
	}
	return u, nil
}

// evictKeptLocked forgets uploads that were put aside: all that are too old, then the oldest while more than room bytes are asked for.
func (s *Store) evictKeptLocked(room int64) {
	for id, u := range s.kept {
		if s.now().Sub(u.closed) > keptLife {
			delete(s.kept, id)
			s.releaseLocked(u.a)
		}
	}
	for s.limit-s.used < room && len(s.kept) > 0 {
		var oldest *upload
		for _, u := range s.kept {
			if oldest == nil || u.closed.Before(oldest.closed) {
				oldest = u
			}
		}
		delete(s.kept, oldest.a.info.ID)
		s.releaseLocked(oldest.a)
	}
}
