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
	end     int64 // of the journal without COMMIT; owned by the caller of Sync and Commit
	named   bool  // the directory entries of the upload are durable; likewise
	tried   bool  // a commit has left COMMIT and zarr.json; likewise

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
	lay, err := newLayout(&spec.Meta)
	if err != nil {
		return nil, nil, opError("begin", spec.Name, fmt.Errorf("%w: %w", store.ErrInvalid, err))
	}
	u := &upload{s: s, spec: spec, path: uploadPath(spec.ID), layout: lay}
	if err := s.claim(u); err != nil {
		return nil, nil, opError("begin", spec.Name, err)
	}
	// The id is ours from here on, so nobody commits it meanwhile.
	if receipt, ok := s.receipts.get(spec.ID); ok {
		s.unclaim(u)
		return nil, &receipt, nil
	}
	// An upload may be moved away only when no intent of its id is in the log.
	err = s.receipts.repair()
	if err == nil {
		s.expire()
		err = s.peekPlace(spec.Name, spec.IfAbsent)
	}
	if err == nil {
		err = u.begin()
	}
	if err != nil {
		s.unclaim(u)
		return nil, nil, opError("begin", spec.Name, err)
	}
	return u, nil, nil
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
func (u *upload) begin() error {
	_, err := u.s.fs.Stat(u.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return u.create()
	case err != nil:
		return err
	}
	u.s.mu.Lock()
	resume := u.spec.Resume && !u.s.spoiled[u.spec.ID]
	u.s.mu.Unlock()
	if resume {
		err := u.reopen()
		if err == nil || !errors.Is(err, store.ErrIntegrity) {
			return err
		}
		u.s.log.Warn("store: an unfinished transfer begins again", "array", u.spec.Name, "error", err)
	}
	if err := u.moveAside(); err != nil {
		return err
	}
	return u.create()
}

// create makes the upload with nothing in it.
func (u *upload) create() (err error) {
	u.created = u.s.now().UTC()
	header, err := encodeHeader(&u.spec, u.created)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	if len(header) > maxRecord {
		return fmt.Errorf("%w: a description of %d bytes, the most is %d", store.ErrInvalid, len(header), maxRecord)
	}
	err = u.makeFiles(header)
	if errors.Is(withClass(err), store.ErrNoSpace) {
		// What was deleted a moment ago may still be on its way out.
		u.s.trash.purge()
		u.s.trash.wait()
		err = u.makeFiles(header)
	}
	if err != nil {
		return err
	}
	u.table = u.layout.newTable(u.spec.Digest)
	return nil
}

// makeFiles makes the upload's directory and files, or nothing.
func (u *upload) makeFiles(header []byte) (err error) {
	if err := u.s.fs.Mkdir(u.path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			u.closeFiles()
			err = errors.Join(err, u.moveAside())
		}
	}()
	if u.layout.key != "" {
		if u.shard, err = u.s.fs.Create(u.path + "/" + u.layout.key); err != nil {
			return err
		}
		if err := u.shard.Allocate(u.layout.allocation()); err != nil {
			return err
		}
	}
	if u.journal, err = u.s.fs.Create(u.path + "/" + sidecarName); err != nil {
		return err
	}
	text := appendRecord(appendPreamble(nil, sidecarMagic), recordHeader, header)
	u.end = int64(len(text))
	_, err = u.journal.WriteAt(text, 0)
	return err
}

// reopen takes up a transfer that was interrupted. ErrConflict when it is that of another array, ErrIntegrity when it cannot go on.
func (u *upload) reopen() (err error) {
	defer func() {
		if err != nil {
			u.closeFiles()
		}
	}()
	file := u.path + "/" + sidecarName
	if u.journal, err = u.s.fs.OpenFile(file, true); err != nil {
		return unusable(err)
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
	u.created, u.table, u.end, u.tried = side.created, side.table, side.end, true
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
	// What a killed server appended may be in memory only: nothing is called durable before it is.
	return u.syncNames()
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
	case u.layout.fixed > 0 && size != u.layout.fixed, size < 1, size > u.layout.stored:
		return 0, fmt.Errorf("%w: cell %d has %d bytes, it should have %d", store.ErrInvalid, cell.Index, size, u.layout.stored)
	case u.table.has(cell.Index):
		return 0, fmt.Errorf("%w: cell %d came twice", store.ErrInvalid, cell.Index)
	}
	off := int64(cell.Index) * int64(u.layout.fixed)
	if u.layout.fixed == 0 {
		off = u.tail
		u.tail += int64(size)
	}
	u.table.set(entry{cell: cell, offset: off, length: size})
	return off, nil
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
	u.closeFiles()
	u.s.idleSince(u.spec.ID)
	u.s.unclaim(u)
}

// abandon throws the upload away and gives its id free.
func (u *upload) abandon() error {
	if errors.Is(u.failed(), errDone) {
		return nil
	}
	u.over()
	u.closeFiles()
	err := u.moveAside()
	u.s.unclaim(u)
	return err
}

// moveAside removes what lies at the upload's path. If that fails, the transfer can only begin again.
func (u *upload) moveAside() error {
	aside, err := u.s.trash.move(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	} else if err == nil {
		u.s.trash.drop(aside)
	}
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	if err != nil {
		u.s.spoiled[u.spec.ID] = true
	} else {
		delete(u.s.spoiled, u.spec.ID)
		delete(u.s.idle, u.spec.ID)
	}
	return err
}

func (u *upload) closeFiles() {
	for _, f := range []*File{&u.shard, &u.journal} {
		if *f != nil {
			// All that matters was synced; an error of close adds nothing.
			_ = (*f).Close()
			*f = nil
		}
	}
}
