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
	if s.watched {
		return
	}
	s.watched, s.told = true, s.cfg.Now()
	s.push(Action{Do: Arm, At: s.told.Add(grantPause)})
}

// look tells the peer that we live, if it is due.
func (s *Session) look(now time.Time) {
	if s.watched = len(s.puts) > 0; !s.watched {
		return
	}
	next := s.told.Add(grantPause)
	if waits := len(s.ops) > 0 || s.holding; !next.After(now) {
		if waits {
			s.live(now)
		}
		next = now.Add(grantPause)
	}
	s.push(Action{Do: Arm, At: next})
}

// live says that we do.
func (s *Session) live(now time.Time) {
	if s.owed > 0 {
		s.grantNow(now)
		return
	}
	s.told = now
	for stream, p := range s.puts {
		if p.state != opening && p.state != failed { // no ACK comes before ACCEPT
			s.send(wire.Header{Kind: wire.Ack, Stream: stream, Index: uint64(p.grid.Len() - p.missing), Raw: wire.AckReceived}, nil)
		}
	}
}
