package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire"
)

// put is an upload, from PUT to its last frame.
//
//	           Begin done           FINISH, all cells in       Commit done
//	opening ───────────────► open ────────────────────► committing ───────► (gone) RECEIPT
//	   │                       │ FINISH, writes pending ▲ last write done     ▲ Commit, submitted behind the writes, done
//	   │                       └──────► finishing ──────┴─────────────────────┘
//	   │                       ▲            │ a cell that does not decode: RESEND
//	   │                       └────────────┘
//	   └── any failure ──► failed: ERROR is sent, the upload dropped, and what still comes is thrown away
type put struct {
	message   []byte // the PUT, as it came: Import begins with it
	spec      store.Spec
	cells          // which came, which are still wanted
	resume    bool // what the client said; spec.Resume is set for an imported PUT too
	state     putState
	writing   int        // cells whose Write is not done
	dropLater Job        // not 0: give the upload up so when the payload that is being read came
	moved     *movedPut  // of an imported PUT, until its upload is open again
	finished  bool       // FINISH came
	root      *wire.Root // of FINISH, with sha256
	behind    bool       // a Commit was submitted behind writes that were pending, and is not done
	cancelled Job        // not 0: CANCEL came since, and means this if that Commit is not made
	join      bool       // of an upload that another connection has open: see join.go
	came      int        // cells that came here, of a join
	gathered  bool       // cells of joined connections are in got
	again     again      // cells that came damaged
}

type putState uint8

const (
	opening putState = iota
	open
	finishing
	committing
	failed // only until pending writes are done
)

func (s *Session) onPut(h wire.Header, b []byte) error {
	p, err := newPut(b)
	if err != nil {
		return err
	}
	s.puts[h.Stream] = p
	s.begin(h.Stream, p)
	return nil
}

// begin opens the upload of a PUT.
func (s *Session) begin(stream uint32, p *put) {
	job := Begin
	if p.join {
		job = Join
	}
	s.watch()
	s.submit(Operation{Job: job, Stream: stream, Spec: &p.spec})
}

// announced is what a PUT says.
type announced struct {
	spec store.Spec
	grid array.Grid
	size int // raw bytes of a cell
	join bool
}

// readPut reads the message of a PUT and checks all that needs no store.
func readPut(b []byte) (a announced, err error) {
	var m wire.PutMessage
	if err := wire.Decode(b, &m); err != nil {
		return a, err
	}
	a.join = m.Join
	if a.spec, err = SpecOf(&m); err != nil {
		return a, err
	}
	if a.grid, err = a.spec.Meta.Grid(); err != nil {
		return a, wire.NewFailure(wire.CodeInvalid, err.Error())
	}
	if a.size, err = a.spec.Meta.CellBytes(); err != nil {
		return a, wire.NewFailure(wire.CodeInvalid, err.Error())
	}
	switch n := a.grid.Len(); {
	case n > wire.MaxCells:
		return a, wire.Failf(wire.CodeLimit, "%d cells, at most %d are allowed; use larger chunks", n, uint64(wire.MaxCells))
	case n > maxTracked:
		return a, wire.Failf(wire.CodeLimit, "%d cells in one transfer, this server tracks at most %d; use larger chunks", n, maxTracked)
	}
	return a, nil
}

// newPut is a PUT whose message is b.
func newPut(b []byte) (*put, error) {
	a, err := formsOfPuts.read(b)
	if err != nil {
		return nil, err
	}
	p := &put{message: bytes.Clone(b), spec: a.spec, resume: a.spec.Resume, join: a.join}
	if p.join {
		p.spec.Resume = false // its cells are the first connection's to keep
	}
	p.cells = newCells(a.grid, a.size, len(a.spec.Meta.Codecs) > 0, !p.join && a.spec.Digest == store.DigestSHA256)
	return p, nil
}

// SpecOf is what the store is told of a PUT.
func SpecOf(m *wire.PutMessage) (store.Spec, error) {
	meta, err := m.Describe()
	if err != nil {
		return store.Spec{}, err
	}
	spec := store.Spec{
		ID: store.ID(m.ID), Name: m.Name, Meta: *meta, NumPy: string(m.NumPy),
		Digest: store.DigestKind(m.Digest), CodecWhy: m.CodecWhy, IfAbsent: m.IfAbsent, Resume: m.Resume, Sparse: m.Sparse,
	}
	if m.Attributes != nil {
		spec.Attributes = []byte(*m.Attributes)
	}
	switch m.Durability {
	case "", store.Durable:
	case store.Relaxed:
		spec.Relaxed = true
	default:
		return store.Spec{}, wire.Failf(wire.CodeInvalid, "durability %q is not known; there are durable and relaxed", m.Durability)
	}
	if spec.Digest == "" {
		spec.Digest = store.DigestCRC32C
	}
	return spec, nil
}

// onChunk decides where the payload of a CHUNK goes.
func (s *Session) onChunk(h wire.Header) Payload {
	if s.outstanding+wire.Cost(h.Raw) > s.cfg.Window {
		return s.refuse(wire.Failf(wire.CodeProtocol, "CHUNK of %d bytes with %d of credit left", h.Raw, s.cfg.Window-s.outstanding))
	}
	p, done := s.streamOf(h)
	if done {
		if p.Verdict == Skip {
			s.skipChunk(h)
		}
		return p
	}
	up := s.puts[h.Stream]
	switch up.state {
	case opening:
		return Payload{Verdict: Wait}
	case failed:
		s.skipChunk(h)
		return Payload{Verdict: Skip}
	case finishing, committing:
		return s.refuse(wire.Failf(wire.CodeProtocol, "a CHUNK after FINISH"))
	case open:
		if up.takeSpare(h) {
			break
		}
		if f := up.refuses(h); f != nil {
			s.failPut(h.Stream, up, f)
			break
		}
		memory, lent := s.mem.Take(h.Stream, int(h.Index), int(h.Length))
		if memory == nil {
			return Payload{Verdict: Wait, Full: true}
		}
		if s.outstanding == s.owed {
			s.told = s.cfg.Now()
		}
		s.outstanding += wire.Cost(h.Raw)
		s.arrivals++
		s.cell, s.lent = memory, lent
		return Payload{Memory: memory}
	}
	s.skipChunk(h)
	return Payload{Verdict: Skip}
}

// skipChunk accounts for a chunk that is thrown away.
func (s *Session) skipChunk(h wire.Header) {
	s.outstanding += wire.Cost(h.Raw)
	s.arrivals++
	s.grant(h.Raw)
}

// onCell takes the payload of a CHUNK that lies in s.cell.
func (s *Session) onCell(h wire.Header, crc, want uint32, status wire.Status) {
	p := s.puts[h.Stream]
	s.arrived(h.Raw)
	if p == nil || p.state != open { // failed while it was read
		s.dropCell()
		s.grant(h.Raw)
		if p != nil && p.dropLater != 0 {
			s.submit(Operation{Job: p.dropLater, Stream: h.Stream})
			p.dropLater = 0
		}
		return
	}
	if status == wire.Aborted {
		s.dropCell()
		s.grant(h.Raw)
		return
	}
	if err := wire.CheckPayload(h, crc, want); err != nil {
		f := wire.NewFailure(wire.CodeIntegrity, fmt.Sprintf("cell %d was damaged on its way: %v", h.Index, err))
		s.dropCell()
		s.grant(h.Raw)
		s.damaged(h.Stream, p, int(h.Index), f)
		return
	}
	p.take(int(h.Index))
	p.writing++
	p.came++
	data, lent := s.cell, s.lent
	s.cell, s.lent = nil, false
	s.submit(Operation{Job: Write, Stream: h.Stream, Cell: store.Cell{Index: int(h.Index), CRC: crc}, Data: data, Raw: h.Raw, Lent: lent, Free: lent})
	if lent {
		s.grant(h.Raw) // the memory is the array's own, nothing has to become free
	} else {
		s.give() // what was owed before
	}
	s.came(h.Stream, p, int(h.Index))
}

// dropCell gives the memory of an unused payload back.
func (s *Session) dropCell() {
	if s.cell != nil && !s.lent {
		s.mem.Give(s.cell)
	}
	s.cell, s.lent = nil, false
}

func (s *Session) onFinish(h wire.Header, b []byte) error {
	p := s.puts[h.Stream]
	if p == nil || p.state == failed {
		return nil // ended while the payload was read
	}
	if p.state == finishing || p.state == committing || p.finished {
		return wire.Failf(wire.CodeProtocol, "a second FINISH")
	}
	if b != nil {
		var m wire.FinishMessage
		if err := wire.Decode(b, &m); err != nil {
			return err
		}
		p.root = &m.Root
	}
	if p.join {
		s.onJoinFinish(h, p)
		return nil
	}
	if n := uint64(p.grid.Len()); h.Index != n {
		s.failPut(h.Stream, p, wire.Failf(wire.CodeInvalid, "FINISH says %d cells, the array has %d", h.Index, n))
		return nil
	}
	if p.leaves != nil && p.root == nil {
		s.failPut(h.Stream, p, wire.Failf(wire.CodeInvalid, "FINISH without the root of digest sha256"))
		return nil
	}
	p.finished = true
	if p.state == open { // otherwise onBegun goes on: an array without cells is finished at once
		s.finish(h.Stream, p)
	}
	return nil
}

// finish commits when every cell is written.
func (s *Session) finish(stream uint32, p *put) {
	if p.join {
		s.finishJoined(stream, p)
		return
	}
	if len(p.again.awaited) > 0 {
		p.finished = false // another follows the cells
		return
	}
	if p.writing > 0 || p.behind {
		p.state = finishing
		if !p.behind && p.missing == 0 && p.leaves == nil { // nothing depends on what the writes say but whether they were made
			p.behind = true
			s.submit(Operation{Job: Commit, Stream: stream, Behind: true})
		}
		return
	}
	if p.missing > 0 && !p.gathered {
		p.state, p.gathered = finishing, true
		p.writing++
		s.submit(Operation{Job: Gather, Stream: stream})
		return
	}
	if p.missing > 0 {
		s.failPut(stream, p, wire.Failf(wire.CodeInvalid, "FINISH with %d of %d cells missing", p.missing, p.grid.Len()))
		return
	}
	var root [32]byte
	if p.leaves != nil {
		root = p.spec.Meta.Root(p.leaves)
		if wire.Root(root) != *p.root {
			s.failPut(stream, p, wire.Failf(wire.CodeIntegrity, "the root over what came is %v, the sender says %v", wire.Root(root), *p.root))
			return
		}
	}
	p.state = committing
	s.submit(Operation{Job: Commit, Stream: stream, Root: root})
}

// failPut answers ERROR, drops the upload and throws away what still comes.
func (s *Session) failPut(stream uint32, p *put, f *wire.Failure) { s.endPut(stream, p, f, Discard) }

// endPut is failPut, and says by job what becomes of the upload.
func (s *Session) endPut(stream uint32, p *put, f *wire.Failure, job Job) {
	if p.state == failed {
		return
	}
	s.fail(stream, f)
	was := p.state
	p.state = failed
	if was != opening {
		s.drop(stream, p, job)
	}
	s.reap(stream, p)
}

// endOf is what becomes of an upload after an error of the store: what is not its fault leaves it to be taken up again.
func endOf(err error) Job {
	if errors.Is(err, ErrUnserved) || errors.Is(err, context.Canceled) {
		return Release
	}
	return Discard
}

// drop gives an upload up. While a payload is being read into memory that the upload lent, it must wait: the memory would be
// another array's before the last byte came.
func (s *Session) drop(stream uint32, p *put, job Job) {
	if s.lent && s.cell != nil && s.header.Stream == stream {
		p.dropLater = job
		return
	}
	s.submit(Operation{Job: job, Stream: stream})
}

// reap forgets an upload that has ended and for which nothing is pending.
func (s *Session) reap(stream uint32, p *put) {
	if p.state != failed || p.dropLater != 0 {
		return
	}
	for _, op := range s.ops {
		if op.Stream == stream {
			return
		}
	}
	delete(s.puts, stream)
}

func (s *Session) cancelPut(stream uint32, forget bool) {
	job := Release
	if forget {
		job = Discard
	}
	s.cancelWith(stream, s.puts[stream], job)
}

func (s *Session) cancelWith(stream uint32, p *put, job Job) {
	if p.behind {
		p.cancelled = job
	}
	if p.state == failed || p.state == committing || p.behind {
		return // it ends by itself
	}
	was := p.state
	p.state = failed
	s.push(Action{Do: Abandon, Stream: stream})
	s.fail(stream, wire.Failf(wire.CodeCancelled, "cancelled by the client"))
	if was != opening {
		s.drop(stream, p, job)
	}
	s.reap(stream, p)
}

func (s *Session) onPutDone(op Operation, r Result) {
	p := s.puts[op.Stream]
	if op.Job == Repeat {
		s.repeats--
	}
	if op.Job == Write && !op.Lent {
		s.mem.Give(op.Data)
	}
	if op.Job == Write && !op.Free {
		s.grant(op.Raw)
	}
	if p == nil {
		return
	}
	switch op.Job {
	case Begin, Join:
		s.onBegun(op, p, r)
	case Gather:
		s.onGathered(op, p, r)
	case Leave:
		s.onLeft(op.Stream, p)
	case Write:
		p.writing--
		_, maybe := errors.AsType[suspect](r.Err)
		switch {
		case p.state == failed:
		case maybe && !p.spec.Sparse: // of a sparse array it may be the source of others already
			s.undone(op.Stream, p, op.Cell.Index, failureOf(r.Err))
		case r.Err != nil:
			f := failureOf(r.Err)
			cell := uint64(op.Cell.Index)
			f.Cell = &cell
			s.endPut(op.Stream, p, f, endOf(r.Err))
		default:
			delete(p.again.damages, op.Cell.Index)
			if p.leaves != nil {
				p.leaves[op.Cell.Index] = r.Cell.Leaf
			}
			if r.Synced > 0 {
				s.send(wire.Header{Kind: wire.Ack, Stream: op.Stream, Index: uint64(r.Synced), Raw: wire.AckDurable}, nil)
			}
			if p.state == finishing && p.writing == 0 {
				s.finish(op.Stream, p)
			}
		}
	case Repeat:
		s.onRepeated(op, p, r)
	case Commit:
		s.onCommitted(op, p, r)
	}
	s.reap(op.Stream, p)
}

// onCommitted answers a PUT, unless its Commit was submitted behind writes of which one was not made.
func (s *Session) onCommitted(op Operation, p *put, r Result) {
	p.behind = false
	switch {
	case p.state == failed:
	case !errors.Is(r.Err, errHeld):
		delete(s.puts, op.Stream)
		if r.Err != nil {
			s.fail(op.Stream, failureOf(r.Err))
			return
		}
		s.send(wire.Header{Kind: wire.Receipt, Stream: op.Stream}, ReceiptMessage(r.Receipt))
	case p.cancelled != 0:
		s.cancelWith(op.Stream, p, p.cancelled)
	case p.state == finishing && p.writing == 0: // the cell came again
		s.finish(op.Stream, p)
	}
}

// onBegun goes on when the upload is open, or already committed.
func (s *Session) onBegun(op Operation, p *put, r Result) {
	switch {
	case p.state == failed: // cancelled meanwhile
		if r.Err == nil && r.Receipt == nil {
			s.submit(Operation{Job: Release, Stream: op.Stream})
		}
		return
	case r.Err != nil:
		p.state = failed
		s.fail(op.Stream, failureOf(r.Err))
		return
	case r.Receipt != nil:
		delete(s.puts, op.Stream)
		s.send(wire.Header{Kind: wire.Receipt, Stream: op.Stream}, ReceiptMessage(r.Receipt))
		return
	}
	p.state = open
	if p.moved != nil {
		s.rejoin(op.Stream, p, r.Durable)
		if p.finished && p.state == open {
			s.finish(op.Stream, p)
		}
		return
	}
	m := p.takeUp(r)
	if p.spec.Resume || p.join {
		s.send(wire.Header{Kind: wire.Accept, Stream: op.Stream}, m)
	}
	if p.finished {
		s.finish(op.Stream, p)
	}
}

// ReceiptMessage is what a client is told of a commit.
func ReceiptMessage(r *store.Receipt) wire.ReceiptMessage {
	return wire.ReceiptMessage{
		Name: r.Name, ID: wire.ID(r.ID), Bytes: r.Bytes, StoredBytes: r.StoredBytes, Cells: r.Cells, Codec: r.Codec,
		CodecWhy: r.CodecWhy, Validated: r.Validated,
		Digest: digestOf(r), Durability: r.Durability, Created: r.Created,
	}
}

func digestOf(r *store.Receipt) wire.Digest {
	d := wire.Digest{Kind: string(r.Digest)}
	if r.Digest == store.DigestSHA256 {
		root := wire.Root(r.Root)
		d.Root = &root
	}
	return d
}
