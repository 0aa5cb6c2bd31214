package session

import (
	"ndferry/store"
	"ndferry/wire"
)

// call is an operation of one question and one answer: STAT, LIST, DELETE, VERIFY.
type call struct {
	kind  wire.Kind
	name  string
	query wire.ListMessage
	ended bool // cancelled; only waits for its result
}

// jobs says which operation answers which call.
var jobs = map[wire.Kind]Job{wire.Stat: Stat, wire.List: List, wire.Delete: Delete, wire.Verify: Verify}

func (s *Session) onCall(h wire.Header, b []byte) error {
	c := &call{kind: h.Kind}
	op := Operation{Stream: h.Stream}
	if h.Kind == wire.List {
		if err := wire.Decode(b, &c.query); err != nil {
			return err
		}
		if err := c.query.Check(); err != nil {
			return err
		}
		if c.query.Limit == 0 || c.query.Limit > wire.MaxPage {
			c.query.Limit = wire.MaxPage
		}
		op.Job, op.Query = jobs[h.Kind], &c.query
	} else {
		var m wire.NameMessage
		if err := wire.Decode(b, &m); err != nil {
			return err
		}
		if err := m.Check(); err != nil {
			return err
		}
		c.name = m.Name
		op.Name = m.Name
		op.Job = jobs[h.Kind]
	}
	s.calls[h.Stream] = c
	s.submit(op)
	return nil
}

func (s *Session) cancelCall(stream uint32) {
	if c := s.calls[stream]; !c.ended {
		c.ended = true
		s.push(Action{Do: Abandon, Stream: stream})
		s.fail(stream, wire.Failf(wire.CodeCancelled, "cancelled by the client"))
	}
}

func (s *Session) onCallDone(op Operation, r Result) {
	c := s.calls[op.Stream]
	last := !(op.Job == Verify && r.More)
	if last {
		delete(s.calls, op.Stream)
	}
	if c == nil || c.ended {
		return
	}
	if r.Err != nil {
		s.fail(op.Stream, failureOf(r.Err))
		return
	}
	switch op.Job {
	case Stat:
		s.send(wire.Header{Kind: wire.Meta, Stream: op.Stream}, MetaMessage(r.Info))
	case List:
		s.send(wire.Header{Kind: wire.Entries, Stream: op.Stream}, entriesOf(r.List, r.More))
	case Delete:
		s.send(wire.Header{Kind: wire.Done, Stream: op.Stream}, nil)
	case Verify:
		h := wire.Header{Kind: wire.Report, Stream: op.Stream}
		if last {
			h.Raw = 1
		}
		s.send(h, r.Report)
	}
}

// entriesOf is a page of a list, cut to what an ENTRIES may carry.
func entriesOf(list []store.Info, more bool) wire.EntriesMessage {
	m := wire.EntriesMessage{Entries: []wire.Entry{}, More: more}
	size := 0
	for _, i := range list {
		// A name of 1,024 bytes can be six times as long in JSON, a shape has up to 64 numbers of 20 digits.
		if size += 256 + 6*len(i.Name) + 21*len(i.Meta.Shape); size > wire.MaxEntries {
			m.More = true
			break
		}
		shape := []int(i.Meta.Shape)
		if shape == nil {
			shape = []int{}
		}
		m.Entries = append(m.Entries, wire.Entry{
			Name: i.Name, DType: i.DType().String(), Shape: shape,
			Bytes: i.Receipt.Bytes, StoredBytes: i.Receipt.StoredBytes, Created: i.Receipt.Created, Digest: string(i.Receipt.Digest),
		})
	}
	return m
}
