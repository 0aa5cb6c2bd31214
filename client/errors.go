package client

import (
	"errors"
	"fmt"
	"net"

	"ndferry/wire"
)

// Errors to test for with errors.Is.
var (
	ErrNotFound  = errors.New("no such array")
	ErrConflict  = errors.New("conflict")   // the name is taken, or an array would have children
	ErrIntegrity = errors.New("integrity")  // a checksum or digest is wrong
	ErrInvalid   = errors.New("invalid")    // name, dtype, shape or range cannot be
	ErrNoSpace   = errors.New("no space")   // the store or a limit is full
	ErrLimit     = errors.New("over limit") // of the protocol or the server
	ErrTemporary = errors.New("temporary")  // the same call may succeed later
	ErrProtocol  = errors.New("protocol")   // the other side does not speak it, or not this version
	ErrClosed    = net.ErrClosed            // the client was closed, or an earlier error closed it
)

var sentinels = map[wire.Code]error{
	wire.CodeNotFound: ErrNotFound, wire.CodeConflict: ErrConflict, wire.CodeIntegrity: ErrIntegrity,
	wire.CodeInvalid: ErrInvalid, wire.CodeNoSpace: ErrNoSpace, wire.CodeLimit: ErrLimit,
	wire.CodeProtocol: ErrProtocol, wire.CodeVersion: ErrProtocol, wire.CodeUnsupported: ErrProtocol,
}

// Error is a failed call.
type Error struct {
	Op, Name  string // "put", "lab/run7"
	Code      wire.Code
	Retryable bool
	Cell      int  // -1 when it concerns no single cell
	Closed    bool // the connection was closed; otherwise it stands between two operations
	Err       error
}

func (e *Error) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("client: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("client: %s %q: %v", e.Op, e.Name, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Is matches the sentinels of this package by code.
func (e *Error) Is(target error) bool {
	return sentinels[e.Code] == target || target == ErrTemporary && e.Retryable
}

// wrap makes err an *Error of the call.
func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Name: name, Err: err, Cell: -1, Code: wire.CodeOf(err)}
	_, between := errors.AsType[boundary](err)
	e.Closed = !between
	if f, ok := errors.AsType[*wire.Failure](err); ok {
		e.Retryable = f.Retryable
		if f.Cell != nil {
			e.Cell = int(*f.Cell)
		}
	}
	return e
}
