package session

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"ndferry/store"
	"ndferry/wire"
)

// get is a download. Cells are read a few ahead of the peer, in the order of the ranges, and sent as their reads end.
//
//	opening ──Open done──► reading ──all sent──► (gone) DONE
//	    └──── failure, CANCEL: ERROR, then Shut when the last read is done
type get struct {
	name    string
	id      store.ID // of the array that was opened: Import must find the same
	ranges  [][2]uint64
	takes   []string // features for cells that are not sent
	info    *store.Info
	opened  bool
	ended   bool   // its last frame is sent; only waits for reads and sends
	next    uint64 // in ranges[0]
	reading int
	sending int
	sent    uint64
	size    uint32 // raw bytes of a cell
}

func (s *Session) onGet(h wire.Header, b []byte) error {
	m, err := s.asked.read(b)
	if err != nil {
		return err
	}
	s.gets[h.Stream] = &get{name: m.Name, ranges: m.Cells, takes: m.Takes}
	first := m.Cells == nil || len(m.Cells) > 0 && m.Cells[0][0] == 0 && m.Cells[0][1] > 0
	s.submit(Operation{Job: Open, Stream: h.Stream, Name: m.Name, First: first, Takes: m.Takes})
	return nil
}

// lastGet is the last GET of a connection: who reads an array again says the same again. The zero value is none.
type lastGet struct {
	text []byte
	said wire.GetMessage // its lists are not changed
}

// read reads and checks the message of a GET.
func (l *lastGet) read(b []byte) (wire.GetMessage, error) {
	if len(b) > 0 && bytes.Equal(b, l.text) {
		return l.said, nil
	}
	var m wire.GetMessage
	if err := wire.Decode(b, &m); err != nil {
		return m, err
	}
	if err := m.Check(); err != nil {
		return m, err
	}
	if len(b) <= maxFormText {
		l.text, l.said = append(l.text[:0], b...), m
	}
	return m, nil
}

func (s *Session) onGetDone(op Operation, r Result) {
	g := s.gets[op.Stream]
	if g == nil {
		return
	}
	switch op.Job {
	case Open:
		s.onOpened(op, g, r)
	case ReadCell:
		s.onRead(op, g, r)
	case Shut:
		delete(s.gets, op.Stream)
	}
}

func (s *Session) onOpened(op Operation, g *get, r Result) {
	if r.Err != nil {
		if !g.ended {
			s.fail(op.Stream, failureOf(r.Err))
		}
		delete(s.gets, op.Stream)
		return
	}
	g.opened = true
	if g.ended {
		s.shutWhenQuiet(op.Stream, g)
		return
	}
	if g.id != (store.ID{}) && g.id != r.Info.ID {
		s.endGet(op.Stream, g, wire.Failf(wire.CodeTemporary, "%q was replaced while this connection moved; ask again", g.name))
		return
	}
	resumed := g.id != store.ID{}
	g.info, g.id = r.Info, r.Info.ID
	size, err := r.Info.Meta.CellBytes()
	if err != nil {
		s.endGet(op.Stream, g, failureOf(err))
		return
	}
	g.size = uint32(size)
	if len(r.Info.Meta.Codecs) > 0 && !slices.Contains(s.peer.Codecs, wire.CodecBlosc) {
		s.endGet(op.Stream, g, wire.Failf(wire.CodeUnsupported, "%q is stored with codec blosc, which this client does not decode", g.name))
		return
	}
	n := uint64(r.Info.Receipt.Cells)
	if g.ranges == nil {
		g.ranges = [][2]uint64{{0, n}}
	}
	for _, c := range g.ranges {
		if c[0] > n || c[1] > n-c[0] {
			s.endGet(op.Stream, g, wire.Failf(wire.CodeInvalid, "cells %d to %d of %q, which has %d", c[0], c[0]+c[1]-1, g.name, n))
			return
		}
	}
	if !resumed {
		s.send(wire.Header{Kind: wire.Meta, Stream: op.Stream}, MetaMessage(r.Info))
	}
	s.pump(op.Stream, g)
}

// pump submits reads while the peer has given credit and few cells are on their way, and ends the GET behind the last.
func (s *Session) pump(stream uint32, g *get) {
	if s.closed || !g.opened {
		return
	}
	if g.ended {
		s.shutWhenQuiet(stream, g)
		return
	}
	for g.reading+g.sending < s.cfg.ReadAhead {
		for len(g.ranges) > 0 && g.next == g.ranges[0][1] {
			g.ranges, g.next = g.ranges[1:], 0
		}
		if len(g.ranges) == 0 {
			if g.reading == 0 {
				s.send(wire.Header{Kind: wire.Done, Stream: stream, Index: g.sent}, nil)
				g.ended = true
				s.shutWhenQuiet(stream, g)
			}
			return
		}
		if s.credit < wire.Cost(g.size) {
			return
		}
		s.credit -= wire.Cost(g.size)
		g.reading++
		s.submit(Operation{Job: ReadCell, Stream: stream, Cell: store.Cell{Index: int(g.ranges[0][0] + g.next)}, Takes: g.takes})
		g.next++
	}
}

func (s *Session) onRead(op Operation, g *get, r Result) {
	g.reading--
	give := func() {
		if r.Data != nil && !r.Lent {
			s.mem.Give(r.Data)
		}
	}
	switch {
	case g.ended || s.closed:
		give()
		s.shutWhenQuiet(op.Stream, g)
		return
	case r.Err != nil:
		give()
		s.credit += wire.Cost(g.size)
		f := failureOf(r.Err)
		cell := uint64(op.Cell.Index)
		f.Cell = &cell
		s.endGet(op.Stream, g, f)
		return
	}
	if r.Data == nil {
		s.sendRepeat(op, g, r)
		s.pump(op.Stream, g)
		return
	}
	h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: op.Stream, Index: uint64(op.Cell.Index), Raw: g.size, Length: uint32(len(r.Data))}
	frame := make([]byte, 0, wire.HeaderSize+wire.TrailerSize)
	frame = wire.AppendTrailer(wire.AppendHeader(frame, h), r.Cell.CRC, wire.Whole)
	s.token++
	t := sent{stream: op.Stream}
	if !r.Lent {
		t.memory = r.Data
	}
	s.tokens[s.token] = t
	g.sending++
	g.sent++
	s.push(Action{Do: Send, Stream: op.Stream, Token: s.token,
		Segments: [][]byte{frame[:wire.HeaderSize], r.Data, frame[wire.HeaderSize:]}})
	s.pump(op.Stream, g)
}

// endGet answers ERROR. Credit of cells that are not sent stays with the peer's GET; the connection has as much as before.
func (s *Session) endGet(stream uint32, g *get, f *wire.Failure) {
	s.fail(stream, f)
	g.ended = true
	s.credit += uint64(g.reading) * wire.Cost(g.size)
	s.shutWhenQuiet(stream, g)
}

func (s *Session) cancelGet(stream uint32) {
	g := s.gets[stream]
	if g.ended {
		return
	}
	s.push(Action{Do: Abandon, Stream: stream})
	s.endGet(stream, g, wire.Failf(wire.CodeCancelled, "cancelled by the client"))
}

// shutWhenQuiet closes the array when no read and no send uses it any more.
func (s *Session) shutWhenQuiet(stream uint32, g *get) {
	if g.opened && g.ended && g.reading == 0 && g.sending == 0 {
		g.opened = false
		s.submit(Operation{Job: Shut, Stream: stream})
	}
}

// MetaMessage is what a client is told of an array.
func MetaMessage(i *store.Info) wire.MetaMessage {
	meta, err := i.Meta.AppendWire(make([]byte, 0, 512))
	if err != nil {
		panic("session: metadata that was checked: " + err.Error())
	}
	m := wire.MetaMessage{
		Name: i.Name, ID: wire.ID(i.ID), Array: jsontext.Value(meta), Attributes: "{}",
		Bytes: i.Receipt.Bytes, StoredBytes: i.Receipt.StoredBytes, Cells: i.Receipt.Cells, Codec: i.Receipt.Codec,
		CodecWhy: i.Receipt.CodecWhy, Validated: i.Receipt.Validated,
		Digest: digestOf(&i.Receipt), Durability: i.Receipt.Durability, Created: i.Receipt.Created,
	}
	if i.NumPy != "" {
		m.NumPy = jsontext.Value(i.NumPy)
	}
	if i.Attributes != nil {
		m.Attributes = string(i.Attributes)
	}
	return m
}
