package dir

import (
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
}

// observe reads both clocks.
func (s *Store) observe() observation { return observation{wall: s.now().Round(0), up: s.uptime()} }

// idleSince notes that nobody has the upload open.
func (s *Store) idleSince(id store.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle[id] = s.observe()
}

// expire removes the uploads whose time is over. No intent of theirs may be in the log: receiptLog.repair has run.
func (s *Store) expire() {
	now := s.observe()
	s.mu.Lock()
	if now.up-s.expired < expireEvery {
		s.mu.Unlock()
		return
	}
	s.expired = now.up
	var over []store.ID
	for id, seen := range s.idle {
		if s.open[id] == nil && now.up-seen.up >= uploadLife && now.wall.Sub(seen.wall) >= uploadLife {
			over = append(over, id)
		}
	}
	s.mu.Unlock()
	for _, id := range over {
		u := &upload{s: s, spec: store.Spec{ID: id}, path: uploadPath(id)}
		if s.claim(u) != nil {
			continue // its client is back
		}
		if err := u.moveAside(); err != nil {
			s.log.Warn("store: cannot remove an abandoned transfer", "id", id, "error", err)
		}
		s.unclaim(u)
	}
}
