package mem

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"ndferry/array"
	"ndferry/internal/sysmem"
	"ndferry/store"
)

var _ store.Store = (*Store)(nil)

const (
	smallest    = 64 << 10           // bytes from which on an array is a mapping; smaller ones lie on the heap
	receiptLife = 7 * 24 * time.Hour // how long a receipt is kept
	maxReceipts = 1 << 20            // receipts kept, whatever their age
	overhead    = 1 << 10            // bytes that an array counts besides its cells
	perCell     = 32                 // bytes that a cell counts besides its own
)

// Config says how a store in memory works. The zero value is right.
type Config struct {
	// Limit is how many bytes arrays and uploads may take; 0 is half of what the process may use.
	Limit int64
	// Pool is how many bytes of unused mappings are kept, within Limit, for at most a minute and while the machine has memory to
	// spare; 0 is half of Limit, less than 0 is none.
	Pool int64
	// Available returns how many bytes of memory the machine could still give; nil asks the system. Less than 1/32 of its memory, and than 1 GiB, is none
	// to spare.
	Available func() int64
	// Now is the clock that dates receipts and ends their life; nil is time.Now.
	Now func() time.Time
}

// Store is a store in memory. Its methods may be called from any goroutine.
type Store struct {
	now       func() time.Time
	available func() int64
	limit     int64

	mu       sync.Mutex
	used     int64                      // guarded by mu: bytes of arrays and uploads
	arrays   map[string]*memArray       // guarded by mu
	names    []string                   // guarded by mu: the keys of arrays, sorted
	open     map[store.ID]bool          // guarded by mu
	kept     map[store.ID]*upload       // guarded by mu; closed, waiting for Resume
	receipts map[store.ID]store.Receipt // guarded by mu
	age      []store.ID                 // guarded by mu: receipts, oldest first
	pool     pool                       // guarded by mu
	blocks   blocks                     // guarded by mu
	tidier   *time.Timer                // guarded by mu: runs tidy while the pool keeps anything; nil when it does not
}

// New returns an empty store.
func New(config Config) *Store {
	s := &Store{
		now: config.Now, available: config.Available, limit: config.Limit, pool: pool{limit: config.Pool},
		arrays: map[string]*memArray{}, open: map[store.ID]bool{}, kept: map[store.ID]*upload{}, receipts: map[store.ID]store.Receipt{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.available == nil {
		s.available = sysmem.Available
	}
	if s.limit == 0 {
		s.limit = sysmem.Total() / 2
	}
	if s.pool.limit == 0 {
		s.pool.limit = s.limit / 2
	}
	s.pool.limit = max(s.pool.limit, 0)
	return s
}

// Instant reports that no method waits for anything but memory.
func (s *Store) Instant() bool { return true }

// Close frees all arrays. Uploads and arrays must have been closed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.arrays {
		s.releaseLocked(a)
	}
	for _, u := range s.kept {
		s.releaseLocked(u.a)
	}
	clear(s.arrays)
	clear(s.kept)
	s.names = nil
	s.pool.shrinkTo(0)
	if s.tidier != nil {
		s.tidier.Stop()
		s.tidier = nil
	}
	return nil
}

// Begin opens the upload spec.ID; see store.Store. Resume finds what an upload had when it was closed, in this process.
func (s *Store) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	u, receipt, err := s.begin(ctx, spec)
	if err != nil {
		return nil, nil, opError("begin", spec.Name, err)
	}
	if receipt != nil {
		return nil, receipt, nil
	}
	return u, nil, nil
}

func (s *Store) begin(ctx context.Context, spec store.Spec) (*upload, *store.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if err := store.CheckSpec(&spec); err != nil {
		return nil, nil, err
	}
	grid, err := spec.Meta.Grid()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	cellSize, err := spec.Meta.CellBytes()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked()
	if r, ok := s.receipts[spec.ID]; ok {
		return nil, &r, nil
	}
	if s.open[spec.ID] {
		return nil, nil, fmt.Errorf("%w: transfer %x is open on another connection", store.ErrBusy, spec.ID[:])
	}
	if err := s.placeLocked(spec.Name, spec.IfAbsent); err != nil {
		return nil, nil, err
	}
	u, err := s.takeKeptLocked(&spec)
	if err != nil {
		return nil, nil, err
	}
	if u != nil {
		s.open[spec.ID] = true
		return u, nil, nil
	}
	a := &memArray{s: s, grid: grid, cells: grid.Len(), refs: 1}
	a.info.Spec = spec
	if len(spec.Meta.Codecs) == 0 && !spec.Sparse {
		a.fixed = cellSize
	}
	if err := s.allocateLocked(a); err != nil {
		return nil, nil, err
	}
	s.open[spec.ID] = true
	return newUpload(a, cellSize), nil, nil
}

// allocateLocked gives an array of uncompressed cells its memory.
func (s *Store) allocateLocked(a *memArray) error {
	size := int64(a.cells) * int64(a.fixed)
	a.size = size + overhead + int64(a.cells)*perCell
	if a.info.Digest == store.DigestSHA256 {
		a.size += int64(a.cells) * sha256.Size
	}
	page := int64(os.Getpagesize())
	whole := int((size + page - 1) / page * page)
	if size >= smallest {
		a.region = s.pool.take(whole)
	}
	if err := s.reserveLocked(a.size); err != nil {
		if a.region != nil {
			s.keepIdleLocked(a.region)
		}
		return err
	}
	if a.fixed == 0 {
		a.parts = make([][]byte, a.cells)
		if a.info.Sparse {
			a.source = map[int]int{}
		}
	}
	if size == 0 {
		return nil
	}
	if size < smallest {
		a.mem = s.blocks.take(int(size))
		return nil
	}
	if a.region == nil {
		var err error
		if a.region, err = newRegion(whole); err != nil {
			s.used -= a.size
			return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
		}
	}
	clear(a.region.mem[size:])
	a.mem = a.region.mem[:size:size]
	return nil
}

// reserveLocked takes bytes off the limit.
func (s *Store) reserveLocked(n int64) error {
	s.evictKeptLocked(n)
	if n > s.limit-s.used {
		return fmt.Errorf("%w: %d bytes are asked for and %d of %d are free", store.ErrNoSpace, n, s.limit-s.used, s.limit)
	}
	s.used += n
	s.pool.shrinkTo(max(0, s.limit-s.used)) // what the pool keeps counts, but never refuses an array
	return nil
}

// releaseLocked gives up one reference to an array. Its memory is free with the last one.
func (s *Store) releaseLocked(a *memArray) {
	if a.refs--; a.refs > 0 {
		return
	}
	s.used -= a.size
	switch {
	case a.region != nil:
		s.keepIdleLocked(a.region)
	case a.mem != nil:
		s.blocks.put(a.mem)
	}
	a.region, a.mem, a.parts = nil, nil, nil
}

// placeLocked reports with ErrConflict why no array may be put at name.
func (s *Store) placeLocked(name string, ifAbsent bool) error {
	for i, c := range name {
		if c == '/' && s.arrays[name[:i]] != nil {
			return fmt.Errorf("%w: %q is an array, and an array has no children", store.ErrConflict, name[:i])
		}
	}
	if at, _ := slices.BinarySearch(s.names, name+"/"); at < len(s.names) && strings.HasPrefix(s.names[at], name+"/") {
		return fmt.Errorf("%w: the name is that of a group with members", store.ErrConflict)
	}
	if ifAbsent && s.arrays[name] != nil {
		return fmt.Errorf("%w: the name is taken", store.ErrConflict)
	}
	return nil
}

// forgetLocked drops receipts that are old.
func (s *Store) forgetLocked() {
	n := 0
	for n < len(s.age) && (len(s.age)-n > maxReceipts || s.now().Sub(s.receipts[s.age[n]].Created) > receiptLife) {
		delete(s.receipts, s.age[n])
		n++
	}
	s.age = slices.Delete(s.age, 0, n)
}

// Open returns a committed array; see store.Store.
func (s *Store) Open(ctx context.Context, name string) (store.Array, error) {
	if err := ctx.Err(); err != nil {
		return nil, opError("open", name, err)
	}
	if err := array.CheckName(name); err != nil {
		return nil, opError("open", name, fmt.Errorf("%w: %w", store.ErrInvalid, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.arrays[name]
	if a == nil {
		return nil, opError("open", name, store.ErrNotFound)
	}
	a.refs++
	return &handle{memArray: a}, nil
}

// List lists arrays; see store.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]store.Info, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, opError("list", prefix, err)
	}
	if limit < 1 {
		return nil, false, opError("list", prefix, fmt.Errorf("%w: limit %d", store.ErrInvalid, limit))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, _ := slices.BinarySearch(s.names, max(prefix, after))
	var found []store.Info
	for _, name := range s.names[at:] {
		if !strings.HasPrefix(name, prefix) {
			break
		}
		if name == after {
			continue
		}
		if len(found) == limit {
			return found, true, nil
		}
		found = append(found, s.arrays[name].info)
	}
	return found, false, nil
}

// Delete removes an array; see store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return opError("delete", name, err)
	}
	if err := array.CheckName(name); err != nil {
		return opError("delete", name, fmt.Errorf("%w: %w", store.ErrInvalid, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.arrays[name]
	if a == nil {
		return opError("delete", name, store.ErrNotFound)
	}
	delete(s.arrays, name)
	at, _ := slices.BinarySearch(s.names, name)
	s.names = slices.Delete(s.names, at, at+1)
	s.releaseLocked(a)
	return nil
}

// publishLocked puts a finished array at its name.
func (s *Store) publishLocked(a *memArray) {
	name := a.info.Name
	if old := s.arrays[name]; old != nil {
		s.releaseLocked(old)
	} else {
		at, _ := slices.BinarySearch(s.names, name)
		s.names = slices.Insert(s.names, at, name)
	}
	s.arrays[name] = a
	s.receipts[a.info.ID] = a.info.Receipt
	s.age = append(s.age, a.info.ID)
}

var errOver = errors.New("the upload is over")

func opError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mem: %s %q: %w", op, name, err)
}
