package session

import (
	"time"

	"ndferry/wire"
)

// grant gives back the credit of a cell of n raw bytes whose memory is free, or owes it.
func (s *Session) grant(n uint32) {
	s.owed += wire.Cost(n)
	if s.cfg.Now().Sub(s.told) >= grantPause {
		s.tell(s.owed) // a sign of progress: the peer knows a slow store from a server that is gone
		return
	}
	s.give()
}

// give grants what is owed as far as the window lets the peer have it, when it is much.
func (s *Session) give() {
	size, step := s.window.Size(s.largest())
	have := s.cfg.Window - s.outstanding // granted, and of a cell that did not begin to come
	if have < size {
		if n := min(s.owed, size-have); n >= step {
			s.tell(n)
		}
	}
	if s.owed > 0 && size < s.cfg.Window && s.stuckAt.IsZero() {
		s.stuckAt, s.seen = s.cfg.Now().Add(stuckAfter), s.arrivals
		s.rearm()
	}
}

// unstick gives all that is owed when no cell came for a while: the peer may wait for the credit of a cell of a PUT that it did not send yet,
// larger than those that are known.
func (s *Session) unstick() {
	s.stuckAt = time.Time{}
	switch {
	case s.owed == 0 || len(s.puts) == 0:
	case s.seen == s.arrivals:
		s.tell(s.owed)
	default:
		s.give()
	}
}

// tell grants n bytes of what is owed.
func (s *Session) tell(n uint64) {
	if s.closed {
		return
	}
	s.send(wire.Header{Kind: wire.Credit, Index: n}, nil)
	s.outstanding -= n
	s.owed -= n
	s.told = s.cfg.Now()
}

// arrived is told of a CHUNK of n raw bytes that is here.
func (s *Session) arrived(n uint32) { s.window.Arrived(wire.Cost(n)) }

// largest is the credit of the largest cell of the PUTs that are open; 0 when there is none.
func (s *Session) largest() (cost uint64) {
	for _, p := range s.puts {
		cost = max(cost, wire.Cost(uint32(p.size)))
	}
	return cost
}
