package session

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/go-json-experiment/json"

	"ndferry/store"
	"ndferry/wire"
)

// frozenVersion is the format of what Export writes. Append members; never change the meaning of one.
const frozenVersion = 1

// frozen is a session between two frames, as another process needs it to go on. Actions that were not fetched, sends that are not
// finished and bytes that were read and not used are the driver's to carry. Operations that are pending are not repeated by name:
// each stream says where it stands and Import submits what follows from that, over cells that the store kept.
type frozen struct {
	Version     int               `json:"version"`
	Greeted     bool              `json:"greeted"`
	Draining    bool              `json:"draining,omitzero"`
	Peer        wire.HelloMessage `json:"peer"`
	Last        uint32            `json:"last"`
	Token       uint64            `json:"token"`
	Outstanding uint64            `json:"outstanding"`
	Owed        uint64            `json:"owed"`
	Credit      uint64            `json:"credit"`
	Puts        []frozenPut       `json:"puts,omitzero"`
	Gets        []frozenGet       `json:"gets,omitzero"`
	Calls       []frozenCall      `json:"calls,omitzero"`
}

type frozenPut struct {
	Stream   uint32         `json:"stream"`
	Message  []byte         `json:"message"` // of the PUT
	Opened   bool           `json:"opened"`
	Failed   bool           `json:"failed,omitzero"`
	Got      []uint64       `json:"got"`
	Finished bool           `json:"finished"`
	Root     *wire.Root     `json:"root,omitzero"`
	Leaves   []wire.Root    `json:"leaves,omitzero"`
	Writes   []frozenWrite  `json:"writes,omitzero"`
	Repeats  []store.Repeat `json:"repeats,omitzero"` // that the store has not recorded yet
	Damages  []frozenDamage `json:"damages,omitzero"` // cells that came damaged
	Held     []store.Repeat `json:"held,omitzero"`    // that wait for cells that were asked for again
}

// frozenWrite is a cell that came and was not written yet.
type frozenWrite struct {
	Cell int    `json:"cell"`
	CRC  uint32 `json:"crc"`
	Data []byte `json:"data"`
	Free bool   `json:"free,omitzero"` // its credit was granted again
}

// frozenDamage is a cell that came damaged and is not written yet.
type frozenDamage struct {
	Cell    int  `json:"cell"`
	Times   int  `json:"times"`
	Awaited bool `json:"awaited,omitzero"` // it did not come again yet
	Asked   bool `json:"asked,omitzero"`   // and RESEND was sent
}

type frozenGet struct {
	Stream uint32      `json:"stream"`
	Name   string      `json:"name"`
	ID     wire.ID     `json:"id"`
	Cells  [][2]uint64 `json:"cells"` // still to be sent; nil: all
	Whole  bool        `json:"whole,omitzero"`
	Takes  []string    `json:"takes,omitzero"`
	Sent   uint64      `json:"sent"`
}

type frozenCall struct {
	Stream uint32           `json:"stream"`
	Kind   wire.Kind        `json:"kind"`
	Name   string           `json:"name,omitzero"`
	Query  wire.ListMessage `json:"query,omitzero"`
}

// Export freezes the session between two frames: no payload is being read, all actions were fetched, and sends with a token were
// either finished or go along with their bytes. Before Import elsewhere the executor must have been frozen by Executor.Freeze, so that
// the cells that were written can be found again. The session is not to be used afterwards.
func (s *Session) Export() ([]byte, error) {
	if s.closed {
		return nil, fmt.Errorf("session: export: the connection is closing")
	}
	if s.head < len(s.actions) {
		return nil, fmt.Errorf("session: export: %d actions were not fetched", len(s.actions)-s.head)
	}
	f := frozen{
		Version: frozenVersion, Greeted: s.greeted, Draining: s.draining, Peer: s.peer, Last: s.last, Token: s.token,
		Outstanding: s.outstanding, Owed: s.owed, Credit: s.credit,
	}
	for stream, p := range s.puts {
		f.Puts = append(f.Puts, s.freezePut(stream, p))
	}
	for stream, g := range s.gets {
		if !g.ended {
			f.Gets = append(f.Gets, s.freezeGet(stream, g))
			f.Credit += uint64(g.reading) * wire.Cost(g.size) // they are read again
		}
	}
	for stream, c := range s.calls {
		if !c.ended {
			f.Calls = append(f.Calls, frozenCall{Stream: stream, Kind: c.kind, Name: c.name, Query: c.query})
		}
	}
	sort.Slice(f.Puts, func(i, j int) bool { return f.Puts[i].Stream < f.Puts[j].Stream })
	sort.Slice(f.Gets, func(i, j int) bool { return f.Gets[i].Stream < f.Gets[j].Stream })
	sort.Slice(f.Calls, func(i, j int) bool { return f.Calls[i].Stream < f.Calls[j].Stream })
	return json.Marshal(f)
}

func (s *Session) freezePut(stream uint32, p *put) frozenPut {
	fp := frozenPut{
		Stream: stream, Message: p.message, Opened: p.state != opening, Failed: p.state == failed,
		Got: p.got, Finished: p.finished, Root: p.root,
	}
	for _, l := range p.leaves {
		fp.Leaves = append(fp.Leaves, wire.Root(l))
	}
	if p.state == failed {
		return fp
	}
	fp.Damages, fp.Held = p.again.freeze(), p.again.held
	if p.moved != nil { // it moves again before its upload was open
		fp.Opened, fp.Got, fp.Writes, fp.Repeats = true, p.moved.got, p.moved.writes, p.moved.repeats
		return fp
	}
	for _, op := range s.pending(stream, Write) {
		fp.Writes = append(fp.Writes, frozenWrite{Cell: op.Cell.Index, CRC: op.Cell.CRC, Data: op.Data, Free: op.Free})
	}
	for _, op := range s.pending(stream, Repeat) {
		fp.Repeats = append(fp.Repeats, op.Repeat)
	}
	return fp
}

func (s *Session) freezeGet(stream uint32, g *get) frozenGet {
	fg := frozenGet{Stream: stream, Name: g.name, ID: wire.ID(g.id), Sent: g.sent, Takes: g.takes, Whole: g.ranges == nil, Cells: [][2]uint64{}}
	for _, op := range s.pending(stream, ReadCell) {
		fg.Cells = append(fg.Cells, [2]uint64{uint64(op.Cell.Index), 1})
	}
	for i, c := range g.ranges {
		if i == 0 {
			c = [2]uint64{c[0] + g.next, c[1] - g.next}
		}
		fg.Cells = append(fg.Cells, c)
	}
	return fg
}

// pending lists the operations of a stream that are not done, in order.
func (s *Session) pending(stream uint32, job Job) []Operation {
	var list []Operation
	for _, op := range s.ops {
		if op.Stream == stream && op.Job == job {
			list = append(list, *op)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}

// Import makes the session that Export froze. It goes on with the same frames on the same connection.
func Import(cfg Config, mem Memory, now time.Time, blob []byte) (*Session, error) {
	var f frozen
	if err := json.Unmarshal(blob, &f); err != nil {
		return nil, fmt.Errorf("session: import: %w", err)
	}
	if f.Version != frozenVersion {
		return nil, fmt.Errorf("session: import: version %d, this program knows %d", f.Version, frozenVersion)
	}
	s := newSession(cfg, mem)
	s.greeted, s.draining, s.peer, s.last, s.token = f.Greeted, f.Draining, f.Peer, f.Last, f.Token
	s.outstanding, s.owed, s.credit = f.Outstanding, f.Owed, f.Credit
	if !s.greeted {
		s.push(Action{Do: Arm, At: now.Add(s.cfg.Handshake)})
	}
	for _, fp := range f.Puts {
		if err := s.importPut(fp); err != nil {
			return nil, err
		}
	}
	for _, fg := range f.Gets {
		g := &get{name: fg.Name, id: store.ID(fg.ID), ranges: fg.Cells, sent: fg.Sent, takes: fg.Takes}
		if fg.Whole {
			g.ranges = nil
		}
		s.gets[fg.Stream] = g
		s.submit(Operation{Job: Open, Stream: fg.Stream, Name: g.name})
	}
	for _, fc := range f.Calls {
		s.calls[fc.Stream] = &call{kind: fc.Kind, name: fc.Name, query: fc.Query}
		s.submit(Operation{Job: jobs[fc.Kind], Stream: fc.Stream, Name: fc.Name, Query: &fc.Query})
	}
	s.give()
	return s, nil
}

func (s *Session) importPut(fp frozenPut) error {
	p, err := newPut(fp.Message)
	if err != nil {
		return fmt.Errorf("session: import: stream %d: %w", fp.Stream, err)
	}
	if len(fp.Got) != len(p.got) || p.leaves != nil && len(fp.Leaves) != len(p.leaves) {
		return fmt.Errorf("session: import: stream %d: %d words of cells, %d leaves", fp.Stream, len(fp.Got), len(fp.Leaves))
	}
	if fp.Failed {
		return nil // it has ended for the peer: what still comes on an ended stream is thrown away
	}
	p.finished, p.root = fp.Finished, fp.Root
	for i := range p.leaves {
		p.leaves[i] = fp.Leaves[i]
	}
	if !p.again.thaw(fp.Damages, fp.Held, p.grid.Len()) {
		return fmt.Errorf("session: import: stream %d: a damaged cell of another array", fp.Stream)
	}
	if fp.Opened {
		p.moved = &movedPut{got: fp.Got, writes: fp.Writes, repeats: fp.Repeats}
		p.spec.Resume = true
	}
	s.puts[fp.Stream] = p
	s.begin(fp.Stream, p)
	return nil
}

// movedPut is what an imported PUT had received before it moved.
type movedPut struct {
	got     []uint64
	writes  []frozenWrite
	repeats []store.Repeat
}

// rejoin goes on with an upload that was opened again: the cells that the peer counts as sent are those that are durable and those whose
// writes come along.
func (s *Session) rejoin(stream uint32, p *put, durable []store.Range) {
	have := newBitmap(p.grid.Len())
	for _, d := range durable {
		for i := d.First; i < d.First+d.Count; i++ {
			have.set(i)
		}
	}
	for _, w := range p.moved.writes {
		have.set(w.Cell)
	}
	for _, r := range slices.Concat(p.moved.repeats, p.again.held) {
		for i := r.First; i < r.First+r.Count; i++ {
			have.set(i)
		}
	}
	for i, word := range p.moved.got {
		if word&^have[i] != 0 {
			s.failPut(stream, p, wire.Failf(wire.CodeTemporary, "cells were lost while the connection moved; ask again with the same id"))
			return
		}
	}
	p.got = p.moved.got
	for i := range p.grid.Len() {
		if p.got.has(i) {
			p.missing--
			p.came++
		}
	}
	for _, w := range p.moved.writes {
		p.writing++
		s.submit(Operation{Job: Write, Stream: stream, Cell: store.Cell{Index: w.Cell, CRC: w.CRC}, Data: w.Data, Raw: uint32(p.size), Free: w.Free})
	}
	for _, r := range p.moved.repeats { // their sources are durable, or were written above
		s.submitRepeat(stream, p, r)
	}
	p.moved = nil
}

// Freeze makes what the executor has open findable for another: uploads are synced and closed but kept. Nothing may run any more.
func (e *Executor) Freeze() error {
	e.mu.Lock()
	for _, u := range e.uploads {
		if u.host != e {
			continue // its cells are in the host's upload
		}
		u.life.Lock()
		err := u.Sync(e.ctx)
		u.keep = true
		u.life.Unlock()
		if err != nil {
			e.mu.Unlock()
			return fmt.Errorf("session: freeze: %w", err)
		}
	}
	e.mu.Unlock()
	e.Close()
	return nil
}
