package session

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"ndferry/store"
	"ndferry/wire"
)

// A PUT may use several connections (spec/WIRE.md §5.1.1). The executor of the first one hosts the upload and ends it; executors of
// others join it, write cells of their own, and leave. Each session knows the cells that came on its own connection; the host's asks
// for the rest by Gather before it commits.

// maxJoined bounds the connections that take part in an upload at a time, besides the first.
const maxJoined = 63

// sharing is what the executors of an upload have between them.
type sharing struct {
	host  *Executor  // immutable
	spec  store.Spec // immutable
	spare bitmap     // immutable; durable cells that it could not; nil: none

	life sync.RWMutex // held for reading by a Write or a Repeat, for writing by what ends the upload or lists its cells
	over bool         // guarded by life

	mu     sync.Mutex
	lent   bitmap // guarded by mu: cells that the host reads into the upload's own memory, or did; nil: none
	taken  bitmap // guarded by mu: cells that came on joined connections; nil: none
	joined int    // guarded by mu
}

// untold notes the durable cells that ACCEPT has no room for.
func (u *upload) untold(durable []store.Range) {
	for _, d := range durable[min(wire.RangesSent, len(durable)):] {
		if u.spare == nil {
			u.spare = newBitmap(u.grid.Len())
		}
		for i := d.First; i < d.First+d.Count; i++ {
			u.spare.set(i)
		}
	}
}

// unhosted is what a joined connection gets when the transfer's first one has ended. Each gets its own, because the session adds the cell.
func unhosted() error {
	return wire.Failf(wire.CodeTemporary, "the first connection of this transfer has ended; ask again with the same id")
}

// lend returns the upload's own memory for a cell that comes on the host's connection, nil when there is none. What comes on a
// joined connection goes through the pool: the host may end the upload at any moment, and memory that it lent would be another
// array's before the last byte came.
func (u *upload) lend(e *Executor, cell, size int) []byte {
	if u.lender == nil || u.host != e {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.taken != nil && u.taken.has(cell) {
		return nil
	}
	p := u.lender.Lend(cell, size)
	if p != nil {
		if u.lent == nil {
			u.lent = newBitmap(u.grid.Len())
		}
		u.lent.set(cell)
	}
	return p
}

// take claims a cell that came on a joined connection.
func (u *upload) take(cell int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.lent != nil && u.lent.has(cell) || u.taken.has(cell) {
		return fmt.Errorf("cell %d came twice: %w", cell, store.ErrInvalid)
	}
	u.taken.set(cell)
	return nil
}

// join opens the upload of another connection for this one too.
func (e *Executor) join(op Operation) Result {
	u := e.owners.hosted(op.Spec.ID)
	switch {
	case u == nil:
		return Result{Err: e.elsewhere(op.Spec.ID)}
	case u.host == e:
		return Result{Err: fmt.Errorf("transfer %x is joined from its own connection: %w", op.Spec.ID[:], store.ErrInvalid)}
	case !store.SameArray(&u.spec, op.Spec):
		return Result{Err: fmt.Errorf("transfer %x is joined with another description: %w", op.Spec.ID[:], store.ErrConflict)}
	}
	u.life.Lock()
	defer u.life.Unlock()
	if u.over {
		return Result{Err: unhosted()}
	}
	u.mu.Lock()
	full := u.joined >= maxJoined
	if !full {
		u.joined++
		if u.taken == nil {
			u.taken = newBitmap(u.grid.Len())
		}
	}
	u.mu.Unlock()
	if full {
		return Result{Err: wire.Failf(wire.CodeLimit, "a transfer has at most %d connections", maxJoined+1)}
	}
	e.mu.Lock()
	e.uploads[op.Stream] = u
	e.mu.Unlock()
	if !op.Spec.Resume { // nobody asks what is there already
		return Result{}
	}
	return u.recorded()
}

// elsewhere is the error of a join of a transfer that is not open in this process. It is a store.OwnedError too when the store knows in
// which one it is.
func (e *Executor) elsewhere(id store.ID) error {
	var err error = wire.Failf(wire.CodeTemporary, "transfer %x is not open in this process; send its cells on the connections that it has", id[:])
	if s, ok := e.store.(interface {
		Owner(store.ID) *store.OwnedError
	}); ok {
		if owned := s.Owner(id); owned != nil {
			err = errors.Join(err, owned)
		}
	}
	return err
}

// leave ends the part that a joined connection has in an upload.
func (u *upload) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.joined--
}

// recorded lists the cells that were written, with their leaves. Called with life held for writing.
func (u *upload) recorded() Result {
	var r Result
	for i := range u.grid.Len() {
		cell, ok := u.Recorded(i)
		switch n := len(r.Durable); {
		case !ok:
			continue
		case n > 0 && r.Durable[n-1].First+r.Durable[n-1].Count == i:
			r.Durable[n-1].Count++
		default:
			r.Durable = append(r.Durable, store.Range{First: i, Count: 1})
		}
		if u.sha256 {
			r.Leaves = append(r.Leaves, cell.Leaf)
		}
	}
	return r
}

// gather lists what all connections of an upload have written.
func (e *Executor) gather(op Operation) Result {
	u := e.upload(op.Stream)
	if u == nil {
		return Result{Err: store.ErrInvalid}
	}
	u.life.Lock()
	defer u.life.Unlock()
	return u.recorded()
}

// writeJoined is write for a cell that came on a joined connection.
func (e *Executor) writeJoined(ctx context.Context, u *upload, op Operation) Result {
	if u.spare != nil && u.spare.has(op.Cell.Index) {
		return Result{Cell: op.Cell}
	}
	if err := u.take(op.Cell.Index); err != nil {
		return Result{Err: err}
	}
	return e.writeCell(ctx, u, op)
}

// end ends the upload by f, when the last write is done.
func (u *upload) end(f func() error) error {
	u.life.Lock()
	defer u.life.Unlock()
	u.over = true
	return f()
}

// onGathered takes the cells that came on joined connections into account.
func (s *Session) onGathered(op Operation, p *put, r Result) {
	p.writing--
	switch {
	case p.state == failed:
		return
	case r.Err != nil:
		s.endPut(op.Stream, p, failureOf(r.Err), endOf(r.Err))
		return
	}
	n := 0
	for _, d := range r.Durable {
		for i := d.First; i < d.First+d.Count; i++ {
			if !p.got.has(i) {
				p.take(i)
				if p.leaves != nil {
					p.leaves[i] = r.Leaves[n]
				}
			}
			n++
		}
	}
	if p.state == finishing && p.writing == 0 {
		s.finish(op.Stream, p)
	}
}

// onJoinFinish takes the FINISH of a joined connection, which counts its own cells.
func (s *Session) onJoinFinish(h wire.Header, p *put) {
	if h.Index != uint64(p.came) {
		s.failPut(h.Stream, p, wire.Failf(wire.CodeInvalid, "FINISH says %d cells, %d came on this connection", h.Index, p.came))
		return
	}
	p.finished = true
	if p.state == open {
		s.finishJoined(h.Stream, p)
	}
}

// finishJoined answers when every cell that came here is written.
func (s *Session) finishJoined(stream uint32, p *put) {
	if p.writing > 0 {
		p.state = finishing
		return
	}
	p.state = committing
	s.submit(Operation{Job: Leave, Stream: stream})
}

// onLeft ends a joined PUT.
func (s *Session) onLeft(stream uint32, p *put) {
	if p.state == committing {
		delete(s.puts, stream)
		s.send(wire.Header{Kind: wire.Done, Stream: stream, Index: uint64(p.came)}, nil)
	}
}
