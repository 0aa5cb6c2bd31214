package session

import (
	"context"
	"fmt"
	"runtime"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// Names of what a server looks at before a compressed cell counts as received, for Executor.Validate.
const (
	ValidateFull   = "full"
	ValidateHeader = "header"
)

// decoding bounds how many cells this process decodes at a time, and with it their memory: one raw cell each.
var decoding = make(chan struct{}, runtime.GOMAXPROCS(0))

// Validate says what is looked at of compressed cells: ValidateFull, the default, decodes each once; ValidateHeader believes its
// header. With digest sha256 all are decoded, because leaves are over raw bytes. To be called before the first operation.
func (e *Executor) Validate(how string) { e.headerOnly = how == ValidateHeader }

// Parallel tells that op computes much and may run beside other operations of its stream for which Parallel is true. All others must
// wait for it, and it for those before it.
func (e *Executor) Parallel(op *Operation) bool {
	if op.Job != Write {
		return false
	}
	u := e.upload(op.Stream)
	return u != nil && (u.compressed || u.sha256 && len(op.Data) > wire.Piece)
}

// inspect checks a cell as it was sent, and sets its leaf.
func (e *Executor) inspect(ctx context.Context, u *upload, op *Operation) error {
	if !u.compressed {
		return u.inspect(op, op.Data)
	}
	if u.headerOnly {
		in, err := codec.Parse(op.Data)
		if err == nil && in.Len != int(op.Raw) {
			err = fmt.Errorf("its header says %d raw bytes, the cells of this array have %d", in.Len, op.Raw)
		}
		return damaged(op, err)
	}
	select {
	case decoding <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-decoding }()
	raw := e.pool.Take(int(op.Raw))
	defer e.pool.Give(raw)
	if err := codec.Decode(raw, op.Data); err != nil {
		return damaged(op, err)
	}
	return u.inspect(op, raw)
}

func damaged(op *Operation, err error) error {
	if err == nil {
		return nil
	}
	return suspect{fmt.Errorf("cell %d cannot be decoded: %w: %w", op.Cell.Index, store.ErrIntegrity, err)}
}

// inspect checks the raw bytes of a cell, and sets its leaf.
func (u *upload) inspect(op *Operation, raw []byte) error {
	if !u.grid.PaddingIsZero(raw, op.Cell.Index) {
		return suspect{fmt.Errorf("cell %d: the padding over the edge of the array is not zero: %w", op.Cell.Index, store.ErrInvalid)}
	}
	if u.sha256 {
		op.Cell.Leaf = array.Leaf(raw)
	}
	return nil
}
