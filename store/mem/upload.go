package mem

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"ndferry/store"
)

var (
	_ store.Upload = (*upload)(nil)
	_ store.Lender = (*upload)(nil)
)

// upload is an array in the making.
type upload struct {
	s       *Store
	a       *memArray
	maximum int // bytes of a stored cell

	mu      sync.Mutex
	have    []uint64  // guarded by mu: bits of the cells that were written
	synced  []uint64  // guarded by mu: those of them that Sync saw
	written int       // guarded by mu
	over    bool      // guarded by mu
	closed  time.Time // guarded by Store.mu; when it was put aside
}

func newUpload(a *memArray, cellSize int) *upload {
	u := &upload{s: a.s, a: a, maximum: store.MaxStored(&a.info.Meta, cellSize), have: make([]uint64, (a.cells+63)/64), synced: make([]uint64, (a.cells+63)/64)}
	a.crc = make([]uint32, a.cells)
	if a.info.Digest == store.DigestSHA256 {
		a.leaf = make([][32]byte, a.cells)
	}
	return u
}

// Durable lists the cells that were written before the last Sync: they last as long as the process, which is as long as anything
// here does.
func (u *upload) Durable() []store.Range {
	u.mu.Lock()
	defer u.mu.Unlock()
	var list []store.Range
	for i := range u.a.cells {
		switch n := len(list); {
		case !has(u.synced, i):
		case n > 0 && list[n-1].First+list[n-1].Count == i:
			list[n-1].Count++
		default:
			list = append(list, store.Range{First: i, Count: 1})
		}
	}
	return list
}

// Recorded returns what is recorded of a cell.
func (u *upload) Recorded(index int) (store.Cell, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if index < 0 || index >= u.a.cells || !u.hasLocked(index) {
		return store.Cell{}, false
	}
	c := store.Cell{Index: index, CRC: u.a.crc[index], Source: index}
	if source, ok := u.a.source[index]; ok {
		c.Source = source
	}
	if u.a.leaf != nil {
		c.Leaf = u.a.leaf[index]
	}
	return c, true
}

// Sync makes what is written findable by a Begin with Resume.
func (u *upload) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return opError("sync", u.a.info.Name, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return opError("sync", u.a.info.Name, errOver)
	}
	copy(u.synced, u.have)
	return nil
}

// Lend returns where the cell will stay.
func (u *upload) Lend(cell, size int) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over || u.a.fixed == 0 || cell < 0 || cell >= u.a.cells || size != u.a.fixed || u.hasLocked(cell) {
		return nil
	}
	u.readyLocked(cell)
	return u.a.cell(cell)
}

// readyLocked prepares the memory of a cell for being written to.
func (u *upload) readyLocked(cell int) {
	if u.a.region != nil {
		u.a.region.ready(cell*u.a.fixed, (cell+1)*u.a.fixed)
	}
}

func (u *upload) hasLocked(cell int) bool { return has(u.have, cell) }

func has(set []uint64, cell int) bool { return set[cell/64]>>(cell%64)&1 == 1 }

// Write stores a cell. Bytes that Lend gave are where they belong already.
func (u *upload) Write(ctx context.Context, cell store.Cell, data []byte) error {
	if err := ctx.Err(); err != nil {
		return opError("write", u.a.info.Name, err)
	}
	if err := u.accept(cell, data); err != nil {
		return opError("write", u.a.info.Name, err)
	}
	if u.a.fixed > 0 {
		if to := u.a.cell(cell.Index); &to[0] != &data[0] {
			copy(to, data)
		}
	}
	return nil
}

// accept records a cell and, when cells have no fixed place, keeps a copy of it.
func (u *upload) accept(cell store.Cell, data []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	i, n := cell.Index, len(data)
	switch {
	case u.over:
		return errOver
	case i < 0 || i >= u.a.cells:
		return fmt.Errorf("%w: cell %d of %d", store.ErrInvalid, i, u.a.cells)
	case u.a.fixed > 0 && n != u.a.fixed, n < 1, n > u.maximum:
		return fmt.Errorf("%w: cell %d has %d bytes, it should have %d", store.ErrInvalid, i, n, u.maximum)
	case u.hasLocked(i):
		return fmt.Errorf("%w: cell %d came twice", store.ErrInvalid, i)
	}
	if u.a.fixed > 0 {
		u.readyLocked(i)
	} else {
		u.s.mu.Lock()
		err := u.s.reserveLocked(int64(n))
		u.s.mu.Unlock()
		if err != nil {
			return err
		}
		u.a.size += int64(n)
		u.a.parts[i] = append([]byte(nil), data...)
	}
	u.have[i/64] |= 1 << (i % 64)
	u.written++
	u.a.crc[i] = cell.CRC
	if u.a.leaf != nil {
		u.a.leaf[i] = cell.Leaf
	}
	return nil
}

// Repeat records cells that share the bytes of others, or have none; see store.Upload.
func (u *upload) Repeat(ctx context.Context, r store.Repeat, leaves [][32]byte) error {
	if err := ctx.Err(); err != nil {
		return opError("repeat", u.a.info.Name, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.over:
		return opError("repeat", u.a.info.Name, errOver)
	case u.a.source == nil || r.First < 0 || r.Count < 1 || r.Count > u.a.cells-r.First || r.Source < store.Fill || r.Source >= r.First:
		return opError("repeat", u.a.info.Name, fmt.Errorf("%w: %d cells from %d like those from %d", store.ErrInvalid, r.Count, r.First, r.Source))
	}
	for k := range r.Count {
		i, source := r.First+k, r.Source+k
		if u.hasLocked(i) || r.Source >= 0 && !u.hasLocked(source) {
			return opError("repeat", u.a.info.Name, fmt.Errorf("%w: cell %d is there already or cell %d is not", store.ErrInvalid, i, source))
		}
		if r.Source == store.Fill {
			u.a.source[i] = store.Fill
			if u.a.leaf != nil {
				u.a.leaf[i] = leaves[k]
			}
		} else {
			if first, ok := u.a.source[source]; ok {
				source = first
			}
			u.a.source[i] = source
			u.a.parts[i], u.a.crc[i] = u.a.parts[r.Source+k], u.a.crc[r.Source+k]
			if u.a.leaf != nil {
				u.a.leaf[i] = u.a.leaf[r.Source+k]
			}
		}
		u.have[i/64] |= 1 << (i % 64)
		u.written++
	}
	return nil
}

// Commit publishes the array; see store.Upload.
func (u *upload) Commit(ctx context.Context, root [32]byte) (store.Receipt, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return store.Receipt{}, opError("commit", u.a.info.Name, errOver)
	}
	err := ctx.Err()
	if err == nil && u.written != u.a.cells {
		err = fmt.Errorf("%w: %d of %d cells were written", store.ErrInvalid, u.written, u.a.cells)
	}
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	if err == nil {
		if err = u.s.placeLocked(u.a.info.Name, u.a.info.IfAbsent); err != nil {
			return store.Receipt{}, opError("commit", u.a.info.Name, err)
		}
	}
	if err != nil {
		u.endLocked()
		u.s.releaseLocked(u.a)
		return store.Receipt{}, opError("commit", u.a.info.Name, err)
	}
	u.a.info.Receipt = u.receipt(root)
	u.s.publishLocked(u.a)
	u.endLocked()
	return u.a.info.Receipt, nil
}

func (u *upload) receipt(root [32]byte) store.Receipt {
	spec := &u.a.info.Spec
	cells, bytes, _ := store.Sizes(&spec.Meta)
	r := store.Receipt{
		ID: spec.ID, Name: spec.Name, Bytes: bytes, Cells: cells, Codec: store.CodecName(&spec.Meta),
		CodecWhy: spec.CodecWhy, Validated: spec.Validated, Digest: spec.Digest, Durability: store.Memory, Created: u.s.now().UTC().Round(0),
	}
	for i := range u.a.cells {
		if _, repeats := u.a.source[i]; !repeats {
			r.StoredBytes += int64(len(u.a.cell(i)))
		}
	}
	if r.Digest == store.DigestSHA256 {
		r.Root = root
	}
	return r
}

// endLocked ends the upload; u.mu and Store.mu are held.
func (u *upload) endLocked() {
	u.over = true
	delete(u.s.open, u.a.info.ID)
}

// Close puts the upload aside for a Begin with Resume, if it has anything.
func (u *upload) Close() error {
	u.leave(true)
	return nil
}

// Discard forgets the upload and frees its space.
func (u *upload) Discard() error {
	u.leave(false)
	return nil
}

// leave ends the upload, unless it has ended, and keeps what it has for another Begin when that is asked for and worth it.
func (u *upload) leave(keep bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return
	}
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	u.endLocked()
	if keep && slices.ContainsFunc(u.synced, func(word uint64) bool { return word != 0 }) {
		u.s.keepLocked(u)
	} else {
		u.s.releaseLocked(u.a)
	}
}
