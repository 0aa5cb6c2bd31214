package dir

import (
	"errors"
	"time"

	"ndferry/store"
)

// An upload that nobody takes up again is removed uploadLife after it was left, or found at start. One clock is not believed: both the
// wall clock and the uptime must say that the time is over, so that neither a clock that is set nor a suspended machine ends a
// transfer early. The uploads are looked through at most every expireEvery, when a transfer begins.
const (
	uploadLife  = 48 * time.Hour
	expireEvery = time.Hour
)

// observation is when an upload was seen last, by two clocks.
type observation struct {
	wall time.Time
	up   time.Duration
	size int64 // of its journal, which grows when a process takes the upload
}

// observe reads both clocks.
func (s *Store) observe() observation { return observation{wall: s.now().Round(0), up: s.uptime()} }

// idleSince notes that nobody has the upload open.
func (s *Store) idleSince(id store.ID, journal int64) {
	seen := s.observe()
	seen.size = journal
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle[id] = seen
}

// expire removes the uploads whose time is over.
func (s *Store) expire() {
	now := s.observe()
	s.mu.Lock()
	if now.up-s.expired < expireEvery {
		s.mu.Unlock()
		return
	}
	s.expired = now.up
	over := map[store.ID]observation{}
	for id, seen := range s.idle {
		if s.open[id] == nil && now.up-seen.up >= uploadLife && now.wall.Sub(seen.wall) >= uploadLife {
			over[id] = seen
		}
	}
	s.mu.Unlock()
	for id, seen := range over {
		u := &upload{s: s, spec: store.Spec{ID: id}, path: uploadPath(id)}
		if s.claim(u) != nil {
			continue // its client is back
		}
		if err := u.expire(seen); err != nil {
			s.log.Warn("store: cannot remove an abandoned transfer", "id", id, "error", err)
		}
		s.unclaim(u)
	}
}

// expire removes an upload that nobody has had since it was seen, in any process. One that somebody had meanwhile has its time again.
func (u *upload) expire(seen observation) error {
	s, id := u.s, u.spec.ID
	if _, err := s.lookup(id); err != nil { // no intent of it may be in the log
		return err
	}
	if err := s.claims.lock(); err != nil {
		return err
	}
	defer s.claims.unlock()
	_, settled, err := s.receipts.find(id)
	if err != nil || !settled {
		return err
	}
	_, err = u.lockJournal()
	defer u.closeFiles()
	if errors.Is(err, store.ErrBusy) {
		s.idleSince(id, seen.size)
		return nil
	}
	if err != nil {
		return err
	}
	if u.journal != nil {
		if size, err := u.journal.Size(); err != nil || size != seen.size {
			s.idleSince(id, size)
			return err
		}
	}
	return u.dropHere()
}
