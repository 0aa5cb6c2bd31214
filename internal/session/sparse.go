package session

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire"
)

// reading is an array that is open for a GET.
type reading struct {
	store.Array
	grid  array.Grid
	size  int
	small bool    // what is left to do takes no time worth mentioning: there is one cell, and it was read
	ahead *Result // of reading it, until it is asked for
	sent  bitmap  // cells whose bytes went out, when the peer takes ALIAS
}

// fillIn records cells that have no CHUNK of their own.
func (u *upload) fillIn(ctx context.Context, op Operation) Result {
	u.life.RLock()
	defer u.life.RUnlock()
	r := op.Repeat
	if r.Source != store.Fill {
		for k := range r.Count {
			if !u.grid.Region(r.First + k).Count.Equal(u.grid.Region(r.Source + k).Count) {
				return Result{Err: fmt.Errorf("cell %d like cell %d, but one reaches over the edge: %w", r.First+k, r.Source+k, store.ErrInvalid)}
			}
		}
		return Result{Err: u.Repeat(ctx, r, nil)}
	}
	var leaves [][32]byte
	if u.sha256 {
		item, err := u.spec.Meta.FillBytes()
		if err != nil {
			return Result{Err: err}
		}
		leaves = make([][32]byte, r.Count)
		cell := make([]byte, u.size)
		known := map[string][32]byte{} // by what lies inside of the array
		for k := range leaves {
			part := u.grid.Region(r.First + k).Count
			leaf, ok := known[part.String()]
			if !ok {
				u.grid.Fill(cell, r.First+k, item)
				leaf = sha256.Sum256(cell)
				known[part.String()] = leaf
			}
			leaves[k] = leaf
		}
	}
	return Result{Err: u.Repeat(ctx, r, leaves), Leaves: leaves}
}

// readRepeat answers a ReadCell of a cell whose bytes need not be sent, or that has none. done is false for others.
func (e *Executor) readRepeat(a *reading, op Operation, cell store.Cell, n int) (r Result, done bool) {
	switch {
	case n == 0 && slices.Contains(op.Takes, wire.FeatureFill):
		cell.Source = store.Fill
		return Result{Cell: cell}, true
	case n == 0 && len(a.Info().Meta.Codecs) > 0:
		return Result{Err: fmt.Errorf("cell %d is the fill value and has no bytes: the client must take %q: %w", cell.Index, wire.FeatureFill, store.ErrInvalid)}, true
	case n == 0:
		item, err := a.Info().Meta.FillBytes()
		if err != nil {
			return Result{Err: err}, true
		}
		data := e.pool.Take(a.size)
		a.grid.Fill(data, cell.Index, item)
		cell.CRC, cell.Source = wire.Checksum(data), cell.Index
		return Result{Cell: cell, Data: data}, true
	case !slices.Contains(op.Takes, wire.FeatureAlias) || !a.Info().Sparse:
		return Result{}, false
	}
	if a.sent == nil {
		a.sent = newBitmap(a.grid.Len())
	}
	if cell.Source != cell.Index && a.sent.has(cell.Source) {
		return Result{Cell: cell}, true
	}
	a.sent.set(cell.Index)
	return Result{}, false
}
