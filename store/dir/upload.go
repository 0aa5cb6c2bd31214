package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"ndferry/store"
)

var _ store.Upload = (*upload)(nil)

// errOver is what methods of an upload return after Commit, Close, Discard or an error of the disk.
var errOver = errors.New("the upload is over")

// upload is a node in the making at state/uploads/<id>.
type upload struct {
	s       *Store
	spec    store.Spec
	path    string
	layout  layout
	created time.Time // of the transfer, for its HEADER

	shard   File // nil when the array has no cells
	journal File
	owner   ownerBody // this process, as the journal says
	ownerAt int64     // where it says so
	end     int64     // of the journal without COMMIT; owned by the caller of Sync and Commit
	size    int64     // of the journal; likewise
	named   bool      // the directory entries of the upload are durable; likewise
	tried   bool      // a commit has left COMMIT and zarr.json; likewise

	mu      sync.Mutex
	table   *table // guarded by mu
	tail    int64  // guarded by mu: where the next cell of no fixed place goes
	written int64  // guarded by mu: bytes since write-back was started last
	low     int64  // guarded by mu: the range that holds them
	high    int64
	err     error // guarded by mu: why nothing goes any more
}

// Begin opens the upload spec.ID; see store.Store. The space of an uncompressed array is taken at once.
func (s *Store) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, opError("begin", spec.Name, err)
	}
	if err := store.CheckSpec(&spec); err != nil {
		return nil, nil, opError("begin", spec.Name, err)
	}
	lay, err := newLayout(&spec)
	if err != nil {
		return nil, nil, opError("begin", spec.Name, fmt.Errorf("%w: %w", store.ErrInvalid, err))
	}
	u := &upload{s: s, spec: spec, path: uploadPath(spec.ID), layout: lay}
	if err := s.claim(u); err != nil {
		return nil, nil, opError("begin", spec.Name, err)
	}
	receipt, err := u.open()
	if err != nil || receipt != nil {
		s.unclaim(u)
		return nil, receipt, opError("begin", spec.Name, err)
	}
	return u, nil, nil
}

// open opens the upload, of which the id is claimed, or returns the receipt of its commit.
func (u *upload) open() (*store.Receipt, error) {
	receipt, err := u.s.lookup(u.spec.ID)
	if err != nil || receipt != nil {
		return receipt, err
	}
	u.s.expire()
	if err := u.s.peekPlace(u.spec.Name, u.spec.IfAbsent); err != nil {
		return nil, err
	}
	var found bool
	err = u.s.makingRoom(func() (err error) {
		receipt, found, err = u.take()
		return err
	})
	if err != nil || receipt != nil {
		return receipt, err
	}
	if err := u.begin(found); err != nil {
		u.closeFiles()
		return nil, err
	}
	return nil, nil
}

// makingRoom does f and, when there was no space for it, once more: what was deleted a moment ago may still be on its way out.
func (s *Store) makingRoom(f func() error) error {
	err := f()
	if errors.Is(withClass(err), store.ErrNoSpace) {
		s.trash.purge()
		s.trash.wait()
		err = f()
	}
	return err
}

func (s *Store) claim(u *upload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[u.spec.ID] != nil {
		return fmt.Errorf("%w: transfer %x is open on another connection", store.ErrBusy, u.spec.ID[:])
	}
	s.open[u.spec.ID] = u
	return nil
}

func (s *Store) unclaim(u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, u.spec.ID)
}

// begin takes up what is durable of the transfer, or begins it anew.
func (u *upload) begin(found bool) error {
	if found {
		u.s.mu.Lock()
		_, spoiled := u.s.spoiled[u.spec.ID]
		u.s.mu.Unlock()
		if u.spec.Resume && !spoiled {
			err := u.reopen()
			if err == nil || !errors.Is(err, store.ErrIntegrity) {
				return err
			}
			u.s.log.Warn("store: an unfinished transfer begins again", "array", u.spec.Name, "error", err)
		}
		if err := u.remake(); err != nil {
			return err
		}
	}
	if err := u.s.makingRoom(u.makeShard); err != nil {
		return errors.Join(err, u.moveAside())
	}
	u.table = u.layout.newTable(u.spec.Digest)
	return nil
}

// makeShard makes the shard with the space for it, or nothing.
func (u *upload) makeShard() (err error) {
	if u.layout.key == "" {
		return nil
	}
	file := u.path + "/" + u.layout.key
	if u.shard, err = u.s.fs.Create(file); err != nil {
		return err
	}
	if err := u.shard.Allocate(u.layout.allocation()); err != nil {
		_ = u.shard.Close()
		u.shard = nil
		return errors.Join(err, u.s.fs.Remove(file))
	}
	return nil
}

// reopen takes up a transfer that was interrupted. ErrConflict when it is that of another array, ErrIntegrity when it cannot go on.
func (u *upload) reopen() (err error) {
	defer func() {
		if err != nil && u.shard != nil {
			_ = u.shard.Close()
			u.shard = nil
		}
	}()
	file := u.path + "/" + sidecarName
	if u.journal == nil {
		return &damage{file, 0, "the journal is missing:"}
	}
	size, err := u.journal.Size()
	if err != nil {
		return err
	}
	side, err := readJournal(u.journal, file, size)
	if err != nil {
		return err
	}
	if !store.SameArray(&side.spec, &u.spec) {
		return fmt.Errorf("%w: transfer %x was begun for %q with another description; use another id", store.ErrConflict, u.spec.ID[:], side.spec.Name)
	}
	u.created, u.table, u.end, u.size, u.tried = side.created, side.table, side.end, size, true
	if side.commitCut {
		if err := u.journal.Truncate(u.end); err != nil {
			return err
		}
	}
	if u.layout.key != "" {
		if u.shard, err = u.s.fs.OpenFile(u.path+"/"+u.layout.key, true); err != nil {
			return unusable(err)
		}
		if size, err = u.shard.Size(); err != nil {
			return err
		}
		u.tail = u.table.tail()
		if size < max(u.layout.allocation(), u.tail) {
			return &damage{u.path + "/" + u.layout.key, size, "the shard is cut off"}
		}
	}
	if err := u.takeOver(side.owner); err != nil {
		return err
	}
	// What a killed server appended may be in memory only: nothing is called durable before it is. A sync that fails spoils the upload.
	if err := u.syncNames(); err != nil {
		return errors.Join(err, u.moveAside())
	}
	return nil
}

// unusable makes a missing file an upload that cannot go on.
func unusable(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", store.ErrIntegrity, err)
	}
	return err
}

// allocation returns the bytes that are taken before the first cell comes: the whole shard when the place of every cell is known.
func (l layout) allocation() int64 {
	if l.fixed == 0 {
		return 0
	}
	return int64(l.grid.Len())*int64(l.fixed) + l.indexSize()
}

// Durable lists the cells that survive a crash.
func (u *upload) Durable() []store.Range {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.table.durable()
}

// Recorded returns what is recorded of a cell.
func (u *upload) Recorded(index int) (store.Cell, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if index < 0 || index >= u.table.n || !u.table.has(index) {
		return store.Cell{}, false
	}
	return u.table.get(index).cell, true
}

// Write stores a cell; see store.Upload.
func (u *upload) Write(ctx context.Context, cell store.Cell, data []byte) error {
	if err := ctx.Err(); err != nil {
		return opError("write", u.spec.Name, err)
	}
	off, err := u.place(cell, len(data))
	if err != nil {
		return opError("write", u.spec.Name, err)
	}
	if _, err := u.shard.WriteAt(data, off); err != nil {
		return opError("write", u.spec.Name, u.fail(err))
	}
	if low, n := u.account(off, int64(len(data))); n > 0 {
		u.shard.WriteBack(low, n)
	}
	return nil
}

// place records a cell and returns where its bytes go.
func (u *upload) place(cell store.Cell, size int) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.err != nil:
		return 0, u.err
	case cell.Index < 0 || cell.Index >= u.table.n:
		return 0, fmt.Errorf("%w: cell %d of %d", store.ErrInvalid, cell.Index, u.table.n)
	case u.layout.plain && size != u.layout.cellSize, size < 1, size > u.layout.stored:
		return 0, fmt.Errorf("%w: cell %d has %d bytes, it should have %d", store.ErrInvalid, cell.Index, size, u.layout.stored)
	case u.table.has(cell.Index):
		return 0, fmt.Errorf("%w: cell %d came twice", store.ErrInvalid, cell.Index)
	}
	off := int64(cell.Index) * int64(u.layout.fixed)
	if u.layout.fixed == 0 {
		off = u.tail
		u.tail += int64(size)
	}
	cell.Source = cell.Index
	u.table.set(entry{cell: cell, offset: off, length: size})
	return off, nil
}

// Repeat records cells that share the bytes of others, or have none; see store.Upload.
func (u *upload) Repeat(ctx context.Context, r store.Repeat, leaves [][32]byte) error {
	if err := ctx.Err(); err != nil {
		return opError("repeat", u.spec.Name, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return opError("repeat", u.spec.Name, u.repeat(r, leaves))
}

func (u *upload) repeat(r store.Repeat, leaves [][32]byte) error {
	switch {
	case u.err != nil:
		return u.err
	case !u.spec.Sparse || r.First < 0 || r.Count < 1 || r.Count > u.table.n-r.First || r.Source < store.Fill || r.Source >= r.First:
		return fmt.Errorf("%w: %d cells from %d like those from %d", store.ErrInvalid, r.Count, r.First, r.Source)
	}
	for k := range r.Count {
		i := r.First + k
		e := entry{cell: store.Cell{Index: i, Source: store.Fill}}
		if u.table.has(i) || r.Source >= 0 && !u.table.has(r.Source+k) {
			return fmt.Errorf("%w: cell %d is there already or cell %d is not", store.ErrInvalid, i, r.Source+k)
		}
		if r.Source >= 0 {
			e = u.table.get(r.Source + k)
			e.cell.Index = i
		} else if u.spec.Digest == store.DigestSHA256 {
			e.cell.Leaf = leaves[k]
		}
		u.table.set(e)
	}
	return nil
}

// account returns the range of which write-back should begin, so that Sync has little left to wait for.
func (u *upload) account(off, n int64) (low, length int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.written == 0 {
		u.low, u.high = off, off+n
	}
	u.low, u.high = min(u.low, off), max(u.high, off+n)
	if u.written += n; u.written < writeBackBytes {
		return 0, 0
	}
	u.written = 0
	return u.low, u.high - u.low
}

// fail makes an error the last word of the upload.
func (u *upload) fail(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		u.err = fmt.Errorf("%w: it failed: %w", errOver, err)
	}
	return err
}

func (u *upload) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// Sync makes all written cells durable: first their bytes, then the records that say so.
func (u *upload) Sync(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		err = u.failed()
	}
	if err == nil {
		err = u.sync()
		if err != nil {
			u.fail(err)
			u.abandon()
		}
	}
	return opError("sync", u.spec.Name, err)
}

func (u *upload) sync() error {
	if err := u.fenced(); err != nil {
		return err
	}
	if u.shard != nil {
		if err := u.shard.Sync(); err != nil {
			return err
		}
	}
	if err := u.appendCells(); err != nil {
		return err
	}
	if err := u.syncNames(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.table.settle()
	return nil
}

// appendCells appends the entries of the cells that the journal does not have. Their data must be durable.
func (u *upload) appendCells() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var body []byte
	flush := func() error {
		record := appendRecord(nil, recordCells, body)
		if _, err := u.journal.WriteAt(record, u.end); err != nil {
			return err
		}
		u.end += int64(len(record))
		u.size = u.end
		body = body[:0]
		return nil
	}
	for i := range u.table.pending() {
		body = u.table.appendEntry(body, i)
		if len(body) == cellsPerRecord*u.table.entrySize() {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(body) == 0 {
		return nil
	}
	return flush()
}

// syncNames makes the journal durable and, the first time, the directory entries that lead to it.
func (u *upload) syncNames() error {
	if err := u.journal.Sync(); err != nil {
		return err
	}
	if u.named {
		return nil
	}
	if err := u.s.fs.SyncDir(u.path); err != nil {
		return err
	}
	if err := u.s.fs.SyncDir(uploadsDir); err != nil {
		return err
	}
	u.named = true
	return nil
}

// Close gives the upload up and keeps what is durable; an upload with nothing durable is forgotten.
func (u *upload) Close() error {
	switch err := u.failed(); {
	case err == nil && u.table.durable() != nil:
		u.leave()
		return nil
	case errors.Is(err, errDone):
		return nil
	}
	return u.Discard()
}

// Discard forgets the upload.
func (u *upload) Discard() error {
	if errors.Is(u.failed(), errDone) {
		return nil
	}
	return opError("discard", u.spec.Name, u.abandon())
}

// errDone marks an upload that has let go of everything.
var errDone = fmt.Errorf("%w: it was committed, closed or discarded", errOver)

func (u *upload) over() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = errDone
}

// leave lets go of the upload and leaves it where it is.
func (u *upload) leave() {
	u.over()
	u.s.idleSince(u.spec.ID, u.size)
	u.closeFiles()
	u.s.unclaim(u)
}

// abandon throws the upload away and gives its id free.
func (u *upload) abandon() error {
	if errors.Is(u.failed(), errDone) {
		return nil
	}
	u.over()
	err := u.moveAside() // while the lock on the journal holds
	u.closeFiles()
	u.s.unclaim(u)
	return err
}

func (u *upload) closeFiles() {
	u.s.mu.Lock()
	if kept, spoiled := u.s.spoiled[u.spec.ID]; spoiled && kept == u.journal {
		u.journal = nil // its lock keeps other processes away
	}
	u.s.mu.Unlock()
	for _, f := range []*File{&u.shard, &u.journal} {
		if *f != nil {
			// All that matters was synced; an error of close adds nothing.
			_ = (*f).Close()
			*f = nil
		}
	}
}
