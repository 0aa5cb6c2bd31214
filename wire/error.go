package wire

import (
	"errors"
	"fmt"
)

// Code names a class of failure, spec/WIRE.md §9. The list is append-only.
type Code string

// Codes, with what spec/WIRE.md §9 says that they mean.
const (
	CodeProtocol    Code = "protocol"    // a frame or message breaks spec/WIRE.md
	CodeVersion     Code = "version"     // no common version
	CodeUnsupported Code = "unsupported" // something critical is unknown
	CodeInvalid     Code = "invalid"     // a well-formed request asks for what cannot be
	CodeNotFound    Code = "not_found"   // no such array
	CodeConflict    Code = "conflict"    // the name is taken, an array would have children, another id
	CodeIntegrity   Code = "integrity"   // a checksum or digest of an array is wrong
	CodeLimit       Code = "limit"       // over a limit of §8 or of the server
	CodeNoSpace     Code = "no_space"    // the store is full
	CodeBusy        Code = "busy"        // the id is in use elsewhere
	CodeTemporary   Code = "temporary"   // may succeed later
	CodePermission  Code = "permission"  // not allowed, or the store is read-only
	CodeDeadline    Code = "deadline"    // no progress in time
	CodeCancelled   Code = "cancelled"   // by the client
	CodeInternal    Code = "internal"    // a bug or a failing disk
	CodeShutdown    Code = "shutdown"    // the server is going
)

// Retryable tells whether the same request may succeed later.
func (c Code) Retryable() bool {
	return c == CodeBusy || c == CodeTemporary || c == CodeShutdown
}

// Error is bytes that break the protocol, found on this side.
type Error struct {
	Section string // of spec/WIRE.md
	Offset  int    // in the header, the trailer or the message
	Code    Code
	Err     error
}

func errorf(section string, offset int, code Code, format string, args ...any) *Error {
	return &Error{Section: section, Offset: offset, Code: code, Err: fmt.Errorf(format, args...)}
}

func (e *Error) Error() string {
	return fmt.Sprintf("wire: %v (spec/WIRE.md §%s)", e.Err, e.Section)
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf is the code to answer err with: that of an *Error or a *Failure in its chain, else internal.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Code
	}
	return CodeInternal
}

// Failure is what an ERROR frame says: the other side's refusal, or ours on its way out.
type Failure struct {
	Code      Code     `json:"code"`
	Message   string   `json:"message"`
	Retryable bool     `json:"retryable"`
	Cell      *uint64  `json:"cell,omitzero"`
	Must      []string `json:"must_understand,omitzero"`
}

func (f *Failure) Error() string { return fmt.Sprintf("%s (%s)", f.Message, f.Code) }

// Failf makes a Failure; its message is cut to what §9 allows.
func Failf(code Code, format string, args ...any) *Failure {
	return NewFailure(code, fmt.Sprintf(format, args...))
}

// NewFailure makes a Failure with a message that is cut to what §9 allows.
func NewFailure(code Code, message string) *Failure {
	return &Failure{Code: code, Message: cut(message, MaxMessage), Retryable: code.Retryable()}
}
