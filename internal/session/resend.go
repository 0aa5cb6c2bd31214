package session

import (
	"maps"
	"slices"

	"ndferry/store"
	"ndferry/wire"
)

// suspect marks what is wrong with the bytes of one cell, and so may be right when they come again.
type suspect struct{ error }

func (s suspect) Unwrap() error { return s.error }

// again is what a PUT knows of cells that came damaged and were asked for again, spec/WIRE.md §5.1. The zero value knows none.
type again struct {
	damages map[int]int    // how often each cell that is not written yet was damaged
	awaited map[int]bool   // those of them that did not come again yet; true: RESEND was sent
	queue   []int          // of awaited, those that are to be asked for when others have come
	held    []store.Repeat // that came while cells were awaited, which may be their sources
}

// damaged asks for a cell again, or ends the PUT when the peer does not send cells again, this one came damaged too often, or the PUT is
// joined to another. What
// else came of a PUT that may be resumed is kept.
func (s *Session) damaged(stream uint32, p *put, cell int, f *wire.Failure) {
	f.Cell = new(uint64(cell))
	a := &p.again
	if !p.join && slices.Contains(s.peer.Features, wire.FeatureResend) && a.damages[cell] < wire.MaxDamages && len(a.awaited) < wire.MaxAwaited {
		if a.damages == nil {
			a.damages, a.awaited = map[int]int{}, map[int]bool{}
		}
		a.damages[cell]++
		a.awaited[cell] = false
		a.queue = append(a.queue, cell)
		p.finished = false
		if p.state == finishing {
			p.state = open
		}
		s.ask(stream, p)
		return
	}
	if !p.resume && !p.join || f.Code != wire.CodeIntegrity {
		s.failPut(stream, p, f)
		return
	}
	f.Retryable = true
	s.fail(stream, f)
	p.state = failed
	s.drop(stream, p, Release)
	s.reap(stream, p)
}

// ask sends RESEND for cells, as long as few are unanswered.
func (s *Session) ask(stream uint32, p *put) {
	a := &p.again
	for len(a.queue) > 0 && len(a.awaited)-len(a.queue) < wire.MaxAsked {
		cell := a.queue[0]
		a.queue = a.queue[1:]
		if _, ok := a.awaited[cell]; ok {
			a.awaited[cell] = true
			s.send(wire.Header{Kind: wire.Resend, Stream: stream, Index: uint64(cell)}, nil)
		}
	}
}

// undone is for a cell whose bytes came whole and turned out to be no cell.
func (s *Session) undone(stream uint32, p *put, cell int, f *wire.Failure) {
	p.lose(cell)
	s.damaged(stream, p, cell, f)
}

// came notes that a cell came, and takes the repeats up that waited for the last one that was awaited.
func (s *Session) came(stream uint32, p *put, cell int) {
	a := &p.again
	asked, ok := a.awaited[cell]
	if !ok {
		return
	}
	delete(a.awaited, cell)
	if !asked { // it came twice by itself
		a.queue = slices.DeleteFunc(a.queue, func(c int) bool { return c == cell })
	}
	if s.ask(stream, p); len(a.awaited) > 0 {
		return
	}
	held := a.held
	a.held = nil
	for _, r := range held {
		s.submitRepeat(stream, p, r)
	}
}

// has tells that a cell is awaited.
func (a *again) has(cell int) bool { _, ok := a.awaited[cell]; return ok }

// hold puts a repeat off while cells are awaited, and tells whether it did. The peer may believe that its source came.
func (s *Session) hold(stream uint32, p *put, r store.Repeat) bool {
	a := &p.again
	switch {
	case len(a.awaited) == 0:
		return false
	case len(a.held) == wire.MaxAwaited:
		s.failPut(stream, p, wire.Failf(wire.CodeIntegrity, "more than %d frames behind a damaged cell", wire.MaxAwaited))
	default:
		a.held = append(a.held, r)
	}
	return true
}

// freeze lists the damages, and which cells are awaited.
func (a *again) freeze() (damages []frozenDamage) {
	for _, cell := range slices.Sorted(maps.Keys(a.damages)) {
		asked, awaited := a.awaited[cell]
		damages = append(damages, frozenDamage{Cell: cell, Times: a.damages[cell], Awaited: awaited, Asked: asked})
	}
	return damages
}

func (a *again) thaw(damages []frozenDamage, held []store.Repeat, cells int) bool {
	a.damages, a.awaited, a.held = map[int]int{}, map[int]bool{}, held
	for _, d := range damages {
		if d.Cell < 0 || d.Cell >= cells {
			return false
		}
		a.damages[d.Cell] = d.Times
		if d.Awaited {
			a.awaited[d.Cell] = d.Asked
		}
		if d.Awaited && !d.Asked {
			a.queue = append(a.queue, d.Cell)
		}
	}
	return true
}
