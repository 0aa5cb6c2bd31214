package session

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire"
)

// codes maps what a store or a name check returns to what a client is told, first match first.
var codes = []struct {
	err  error
	code wire.Code
}{
	{store.ErrNotFound, wire.CodeNotFound},
	{store.ErrConflict, wire.CodeConflict},
	{store.ErrBusy, wire.CodeBusy},
	{store.ErrIntegrity, wire.CodeIntegrity},
	{store.ErrNoSpace, wire.CodeNoSpace},
	{store.ErrInvalid, wire.CodeInvalid},
	{array.ErrName, wire.CodeInvalid},
	{array.ErrUnsupportedDType, wire.CodeInvalid},
	{context.Canceled, wire.CodeCancelled},
	{fs.ErrPermission, wire.CodePermission},
	{syscall.EROFS, wire.CodePermission},
	{syscall.EMFILE, wire.CodeTemporary},
	{syscall.ENFILE, wire.CodeTemporary},
	{syscall.ENOMEM, wire.CodeTemporary},
}

// failureOf is what the peer is told of err.
func failureOf(err error) *wire.Failure {
	if f, ok := errors.AsType[*wire.Failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return wire.NewFailure(e.Code, e.Error())
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return wire.NewFailure(c.code, err.Error())
		}
	}
	return wire.NewFailure(wire.CodeInternal, err.Error())
}
