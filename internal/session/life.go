package session

import (
	"time"

	"ndferry/wire"
)

// A peer whose PUT waits for a slow store cannot tell that from a server that is gone: the store has others to serve before its cells, or its
// commit. So it hears of us every grantPause, by CREDIT of what it is owed, and when that is
// nothing, by ACK of the cells that came.
//
//	a PUT begins ──► watched ──── each grantPause: look ────► no PUT is open: not watched
//	                    ▲               │ one is: CREDIT or ACK if it waits for us and heard nothing meanwhile
//	                    └───────────────┘

// watch begins to look after the PUTs.
func (s *Session) watch() {
	if !s.lookAt.IsZero() {
		return
	}
	s.told = s.cfg.Now()
	s.lookAt = s.told.Add(grantPause)
	s.rearm()
}

// look tells the peer that we live, if it is due.
func (s *Session) look(now time.Time) {
	s.lookAt = time.Time{}
	if len(s.puts) == 0 {
		return
	}
	if due := s.told.Add(grantPause); due.After(now) {
		s.lookAt = due
		return
	}
	if len(s.ops) > 0 || s.holding {
		s.live(now)
	}
	s.lookAt = now.Add(grantPause)
}

// live says that we do.
func (s *Session) live(now time.Time) {
	if s.owed > 0 {
		s.tell(s.owed)
		return
	}
	s.told = now
	for stream, p := range s.puts {
		if p.state != opening && p.state != failed { // no ACK comes before ACCEPT
			s.send(wire.Header{Kind: wire.Ack, Stream: stream, Index: uint64(p.grid.Len() - p.missing), Raw: wire.AckReceived}, nil)
		}
	}
}
