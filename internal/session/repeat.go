package session

import (
	"encoding/binary"

	"ndferry/store"
	"ndferry/wire"
)

// maxRepeats bounds the ALIAS and FILL of a connection that wait for the store.
const maxRepeats = 64

// onRepeat decides about an ALIAS or FILL. done means that p is the answer.
func (s *Session) onRepeat(h wire.Header) (p Payload, done bool) {
	if p, done := s.streamOf(h); done {
		return p, true
	}
	up := s.puts[h.Stream]
	switch {
	case up.state == opening, s.repeats >= maxRepeats:
		return Payload{Verdict: Wait}, true
	case up.state == failed:
		return Payload{Verdict: Skip}, true
	case up.state == finishing, up.state == committing, up.finished:
		return s.refuse(wire.Failf(wire.CodeProtocol, "%v after FINISH", h.Kind)), true
	case h.Kind == wire.Fill:
		s.repeat(h, up, store.Fill)
		return Payload{}, true
	}
	return Payload{}, false
}

// onAlias takes the payload of an ALIAS.
func (s *Session) onAlias(h wire.Header, b []byte) {
	p := s.puts[h.Stream]
	if p == nil || p.state != open {
		return // ended while the payload was read
	}
	source := binary.LittleEndian.Uint64(b)
	if source >= h.Index {
		s.failPut(h.Stream, p, wire.Failf(wire.CodeInvalid, "cells from %d like those from %d, which is not before", h.Index, source))
		return
	}
	s.repeat(h, p, int(source))
}

// repeat takes cells that have no CHUNK.
func (s *Session) repeat(h wire.Header, p *put, source int) {
	n := p.grid.Len()
	r := store.Repeat{First: int(h.Index), Count: int(h.Raw), Source: source}
	if p.join {
		s.failPut(h.Stream, p, wire.Failf(wire.CodeInvalid, "%v on a joined connection", h.Kind))
		return
	}
	if !p.spec.Sparse {
		s.failPut(h.Stream, p, wire.Failf(wire.CodeInvalid, "%v in a PUT that is not sparse", h.Kind))
		return
	}
	if r.First >= n || r.Count > n-r.First {
		s.failPut(h.Stream, p, wire.Failf(wire.CodeInvalid, "%d cells from %d of an array of %d", r.Count, r.First, n))
		return
	}
	for k := range r.Count {
		if p.got.has(r.First+k) || source >= 0 && !p.got.has(source+k) && !p.again.has(source+k) {
			s.failPut(h.Stream, p, wire.Failf(wire.CodeInvalid, "%v: cell %d came twice, or cell %d did not come before", h.Kind, r.First+k, source+k))
			return
		}
		p.take(r.First + k)
	}
	if !s.hold(h.Stream, p, r) {
		s.submitRepeat(h.Stream, p, r)
	}
}

func (s *Session) submitRepeat(stream uint32, p *put, r store.Repeat) {
	p.writing++
	s.repeats++
	s.submit(Operation{Job: Repeat, Stream: stream, Repeat: r})
}

// onRepeated takes the result of a Repeat.
func (s *Session) onRepeated(op Operation, p *put, r Result) {
	p.writing--
	switch {
	case p.state == failed:
		return
	case r.Err != nil:
		s.endPut(op.Stream, p, failureOf(r.Err), endOf(r.Err))
		return
	case p.leaves != nil:
		for k := range op.Repeat.Count {
			if op.Repeat.Source == store.Fill {
				p.leaves[op.Repeat.First+k] = r.Leaves[k]
			} else { // the writes of the sources were submitted before, so they are done
				p.leaves[op.Repeat.First+k] = p.leaves[op.Repeat.Source+k]
			}
		}
	}
	if p.state == finishing && p.writing == 0 {
		s.finish(op.Stream, p)
	}
}

// sendRepeat answers a cell of a GET that need not travel.
func (s *Session) sendRepeat(op Operation, g *get, r Result) {
	s.credit += wire.Cost(g.size)
	g.sent++
	h := wire.Header{Kind: wire.Fill, Flags: wire.Critical, Stream: op.Stream, Index: uint64(op.Cell.Index), Raw: 1}
	var payload []byte
	if r.Cell.Source != store.Fill {
		h.Kind = wire.Alias
		payload = binary.LittleEndian.AppendUint64(nil, uint64(r.Cell.Source))
	}
	s.push(Action{Do: Send, Segments: [][]byte{wire.AppendFrame(nil, h, payload)}, Stream: op.Stream})
}
