package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire"
)

// Executor runs the operations of one session on a store. Operations of a stream must run in the order in which they were
// submitted; different streams may run at the same time, on any goroutine. It is the session's Memory too.
type Executor struct {
	store  store.Store
	pool   *Pool
	owners *Owners
	kick   func() // ends the connection
	now    func() time.Time
	ctx    context.Context
	held   atomic.Int64 // bytes of the pool

	headerOnly bool // as Validate says; immutable after the first operation
	every      int  // as Checkpoint says; likewise

	mu      sync.Mutex
	uploads map[uint32]*upload            // guarded by mu
	arrays  map[uint32]*reading           // guarded by mu
	cancel  map[uint32]context.CancelFunc // guarded by mu; of what runs
}

// upload is an open store.Upload with what checking its cells takes.
type upload struct {
	store.Upload
	sharing
	id     store.ID
	lender store.Lender // nil when it has no memory of its own
	grid   array.Grid
	sha256 bool
	size   int // raw bytes of a cell

	compressed bool
	headerOnly bool        // compressed cells are not decoded
	keep       bool        // Resume
	short      atomic.Bool // a Write or Repeat was not made, and no Commit was held because of it yet
	point      checkpoint
}

// NewExecutor returns an executor over st. ctx ends what it waits for.
func NewExecutor(ctx context.Context, st store.Store, pool *Pool) *Executor {
	return &Executor{
		store: st, pool: pool, ctx: ctx, now: time.Now, every: checkpointBytes / 2,
		uploads: map[uint32]*upload{}, arrays: map[uint32]*reading{}, cancel: map[uint32]context.CancelFunc{},
	}
}

// Quick tells that op waits for nothing and computes little, so that it may run where waiting hurts.
func (e *Executor) Quick(op *Operation) bool {
	if op.Job == ReadCell || op.Job == Shut {
		if a := e.array(op.Stream); a != nil && a.small {
			return true
		}
	}
	if !e.store.Instant() || op.Job == Verify {
		return false
	}
	if op.Job == Write && len(op.Data) > wire.Piece {
		if u := e.upload(op.Stream); u != nil && (u.sha256 || u.compressed) {
			return false
		}
	}
	return true
}

// Wanted tells that op has a purpose though the connection is gone: it ends something, or it stores what came of a transfer that goes on.
func (e *Executor) Wanted(op *Operation) bool {
	switch op.Job {
	case Release, Discard, Shut:
		return true
	case Write, Repeat:
		u := e.upload(op.Stream)
		return u != nil && u.keep
	}
	return false
}

// Take implements Memory.
func (e *Executor) Take(stream uint32, cell, size int) (p []byte, lent bool) {
	if u := e.upload(stream); u != nil {
		if p := u.lend(e, cell, size); p != nil {
			return p, true
		}
	}
	p = e.pool.TryTake(size, e.held.Load())
	e.held.Add(int64(cap(p)))
	return p, false
}

// Give implements Memory.
func (e *Executor) Give(p []byte) {
	e.held.Add(-int64(cap(p)))
	e.pool.Give(p)
}

// Abandon cancels what runs for the stream.
func (e *Executor) Abandon(stream uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cancel := e.cancel[stream]; cancel != nil {
		cancel()
	}
}

// Idle tells that nothing is open, so that Close would do nothing.
func (e *Executor) Idle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.uploads)+len(e.arrays) == 0
}

// Close gives up what is open. Nothing may run any more.
func (e *Executor) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for stream, u := range e.uploads {
		delete(e.uploads, stream)
		if u.host != e {
			u.leave()
			continue
		}
		u.end(func() error {
			if u.keep {
				return u.putAside(e.ctx)
			}
			return u.Discard()
		})
		e.owners.release(u.id, e)
	}
	for stream, a := range e.arrays {
		_ = e.shut(a)
		delete(e.arrays, stream)
	}
}

func (e *Executor) upload(stream uint32) *upload {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.uploads[stream]
}

func (e *Executor) array(stream uint32) *reading {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.arrays[stream]
}

// Run does op. progress is called with what a Verify reports before its end.
func (e *Executor) Run(op Operation, progress func(Result)) Result {
	ctx, cancel := e.ctx, context.CancelFunc(nil)
	if op.Job == Verify || !e.store.Instant() && (op.Job == ReadCell || op.Job == List) {
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		e.mu.Lock()
		e.cancel[op.Stream] = cancel
		e.mu.Unlock()
		defer func() {
			e.mu.Lock()
			delete(e.cancel, op.Stream)
			e.mu.Unlock()
		}()
	}
	switch op.Job {
	case Begin:
		return e.begin(ctx, op)
	case Write, Repeat:
		return e.record(ctx, op)
	case Commit, Release, Discard, Leave:
		return e.end(ctx, op)
	case Join:
		return e.join(op)
	case Gather:
		return e.gather(op)
	case Open:
		return e.open(ctx, op)
	case ReadCell:
		return e.read(ctx, op)
	case Shut:
		e.mu.Lock()
		a := e.arrays[op.Stream]
		delete(e.arrays, op.Stream)
		e.mu.Unlock()
		return Result{Err: e.shut(a)}
	case Stat:
		a, err := e.store.Open(ctx, op.Name)
		if err != nil {
			return Result{Err: err}
		}
		return Result{Info: a.Info(), Err: a.Close()}
	case List:
		list, more, err := e.store.List(ctx, op.Query.Prefix, op.Query.After, op.Query.Limit)
		return Result{List: list, More: more, Err: err}
	case Delete:
		return Result{Err: e.store.Delete(ctx, op.Name)}
	case Verify:
		return e.verify(ctx, op, progress)
	}
	panic(fmt.Sprintf("session: job %d", op.Job))
}

func (e *Executor) begin(ctx context.Context, op Operation) Result {
	spec := *op.Spec
	compressed := len(spec.Meta.Codecs) > 0
	headerOnly := compressed && e.headerOnly && spec.Digest != store.DigestSHA256
	if headerOnly {
		spec.Validated = store.Header
	}
	up, receipt, err := e.beginOwned(ctx, &spec)
	if err != nil || receipt != nil {
		return Result{Err: err, Receipt: receipt}
	}
	grid, err := spec.Meta.Grid()
	if err != nil {
		up.Discard()
		return Result{Err: err}
	}
	size, err := spec.Meta.CellBytes()
	_, fillErr := spec.Meta.FillBytes()
	if err := errors.Join(err, fillErr); err != nil {
		up.Discard()
		return Result{Err: err}
	}
	u := &upload{
		id:         spec.ID,
		compressed: compressed, headerOnly: headerOnly, Upload: up, grid: grid, size: size,
		sha256: spec.Digest == store.DigestSHA256, keep: spec.Resume,
	}
	u.host, u.spec = e, spec
	u.point.at, u.point.every = e.now(), e.every
	u.lender, _ = up.(store.Lender)
	r := Result{Durable: up.Durable()}
	u.untold(r.Durable)
	e.mu.Lock()
	e.uploads[op.Stream] = u
	e.mu.Unlock()
	e.owners.claim(spec.ID, e, u)
	for _, d := range r.Durable {
		u.point.durable += d.Count
		if !u.sha256 {
			continue
		}
		for i := d.First; i < d.First+d.Count; i++ {
			cell, _ := up.Recorded(i)
			r.Leaves = append(r.Leaves, cell.Leaf)
		}
	}
	return r
}

// record runs a Write or Repeat.
func (e *Executor) record(ctx context.Context, op Operation) (r Result) {
	u := e.upload(op.Stream)
	switch {
	case u == nil: // an earlier operation of the stream failed and the session knows
		return Result{Err: store.ErrInvalid}
	case op.Job == Repeat:
		r = u.fillIn(ctx, op)
	case u.host != e:
		r = e.writeJoined(ctx, u, op)
	default:
		r = e.writeCell(ctx, u, op)
	}
	if r.Err != nil {
		u.short.Store(true)
	}
	return r
}

// writeCell checks what only the decoded cell shows, and writes it.
func (e *Executor) writeCell(ctx context.Context, u *upload, op Operation) Result {
	u.life.RLock()
	defer u.life.RUnlock()
	if u.over {
		return Result{Err: unhosted()}
	}
	if err := e.inspect(ctx, u, &op); err != nil {
		return Result{Err: err}
	}
	if err := u.store(ctx, op.Cell, op.Data); err != nil {
		return Result{Err: err}
	}
	synced, err := u.checkpoint(ctx, len(op.Data), e.now())
	return Result{Cell: op.Cell, Synced: synced, Err: err}
}

func (e *Executor) end(ctx context.Context, op Operation) Result {
	e.mu.Lock()
	u := e.uploads[op.Stream]
	if op.Behind && (u == nil || u.short.Swap(false)) {
		e.mu.Unlock()
		return Result{Err: errHeld}
	}
	delete(e.uploads, op.Stream)
	e.mu.Unlock()
	if u == nil {
		return Result{}
	}
	if u.host != e {
		u.leave()
		return Result{}
	}
	defer e.owners.release(u.id, e)
	var r Result
	r.Err = u.end(func() error {
		switch {
		case op.Job == Release && u.keep:
			return u.putAside(ctx)
		case op.Job == Commit && u.keep && ctx.Err() != nil: // the server stops
			return errors.Join(ctx.Err(), u.putAside(ctx))
		case op.Job != Commit:
			return u.Discard()
		}
		receipt, err := u.Commit(ctx, op.Root)
		if err != nil {
			u.Discard()
			return err
		}
		r.Receipt = &receipt
		return nil
	})
	return r
}

func (e *Executor) open(ctx context.Context, op Operation) Result {
	a, err := e.store.Open(ctx, op.Name)
	if err != nil {
		return Result{Err: err}
	}
	r := &reading{Array: a}
	var sizeErr, fillErr error
	r.grid, err = a.Info().Meta.Grid()
	r.size, sizeErr = a.Info().Meta.CellBytes()
	_, fillErr = a.Info().Meta.FillBytes()
	if err := errors.Join(err, sizeErr, fillErr); err != nil {
		a.Close()
		return Result{Err: err}
	}
	e.mu.Lock()
	e.arrays[op.Stream] = r
	e.mu.Unlock()
	if op.First && !e.store.Instant() && r.size <= smallCell && r.grid.Len() == 1 && !e.pool.Half() {
		got := e.read(ctx, Operation{Job: ReadCell, Stream: op.Stream, Takes: op.Takes})
		r.small, r.ahead = true, &got
	}
	return Result{Info: a.Info()}
}

// smallCell is the size of an array's only cell that is read along with opening it, so that a GET of it is one operation for others to wait for.
const smallCell = 64 << 10

// shut closes an array, whatever of it was read for nothing.
func (e *Executor) shut(a *reading) error {
	if r := a.ahead; r != nil && r.Data != nil && !r.Lent {
		e.Give(r.Data)
	}
	return a.Close()
}

func (e *Executor) read(ctx context.Context, op Operation) Result {
	a := e.array(op.Stream)
	if r := a.ahead; r != nil {
		a.ahead = nil
		return *r
	}
	cell, n, err := a.Cell(op.Cell.Index)
	if err != nil {
		return Result{Err: err}
	}
	if r, done := e.readRepeat(a, op, cell, n); done {
		return r
	}
	if v, ok := a.Array.(store.Viewer); ok {
		return Result{Cell: cell, Data: v.View(op.Cell.Index), Lent: true}
	}
	if n > wire.MaxChunk {
		return Result{Err: fmt.Errorf("cell %d has %d stored bytes: %w", op.Cell.Index, n, store.ErrIntegrity)}
	}
	data := e.pool.Take(n)
	e.held.Add(int64(cap(data)))
	if err := a.Read(ctx, op.Cell.Index, data); err != nil {
		e.Give(data)
		return Result{Err: err}
	}
	if a.Info().Digest == store.DigestNone {
		cell.CRC = wire.Checksum(data)
	}
	return Result{Cell: cell, Data: data}
}

// reportStep is how many bytes lie between two reports of a Verify.
const reportStep = 256 << 20

func (e *Executor) verify(ctx context.Context, op Operation, progress func(Result)) Result {
	a, err := e.store.Open(ctx, op.Name)
	if err != nil {
		return Result{Err: err}
	}
	defer a.Close()
	r := wire.ReportMessage{Cells: a.Info().Receipt.Cells, Bad: []wire.BadItem{}}
	var reported int64
	err = a.Verify(ctx, func(cells int, bytes int64) {
		r.CellsDone, r.BytesDone = cells, bytes
		if bytes-reported >= reportStep {
			reported = bytes
			progress(Result{Report: wire.ReportMessage{Cells: r.Cells, CellsDone: cells, BytesDone: bytes, BadCount: r.BadCount, Bad: []wire.BadItem{}}, More: true})
		}
	}, func(p store.Problem) {
		if r.BadCount++; len(r.Bad) < wire.MaxBad {
			item := wire.BadItem{File: p.File, Problem: p.Text}
			if p.Cell >= 0 {
				item.Cell = &p.Cell
			}
			r.Bad = append(r.Bad, item)
		}
	})
	return Result{Report: r, Err: err}
}
