package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/worker"
	"ndferry/store"
	"ndferry/wire"
)

// Exit codes. Where they overlap they are rclone's, so that scripts carry
// over; 9 is rclone's "nothing to do" and is not used here.
const (
	ExitOK        = 0
	ExitOther     = 1
	ExitUsage     = 2
	ExitNoServer  = 3
	ExitNoArray   = 4
	ExitTemporary = 5
	ExitPartial   = 6
	ExitFatal     = 7
	ExitLimit     = 8
	ExitDeadline  = 10
	ExitIntegrity = 11
	ExitConflict  = 12
)

// exitMeanings is what help says of each code, in order.
var exitMeanings = []struct {
	code    int
	meaning string
}{
	{ExitOK, "success"},
	{ExitOther, "any other failure"},
	{ExitUsage, "wrong usage"},
	{ExitNoServer, "server or store not found"},
	{ExitNoArray, "array not found"},
	{ExitTemporary, "temporary failure: trying again may help"},
	{ExitPartial, "some items failed"},
	{ExitFatal, "fatal: authentication, permission or protocol"},
	{ExitLimit, "a limit, quota or the space is exhausted"},
	{ExitDeadline, "deadline passed"},
	{ExitIntegrity, "integrity: damaged data was found"},
	{ExitConflict, "conflict: exists already or is in use"},
}

// failureCodes maps what a server, or the client's own check of it, said. An
// internal failure says nothing: the error that caused it does, if it is here.
var failureCodes = map[wire.Code]int{
	wire.CodeProtocol:    ExitFatal,
	wire.CodeVersion:     ExitFatal,
	wire.CodeUnsupported: ExitFatal,
	wire.CodePermission:  ExitFatal,
	wire.CodeInvalid:     ExitUsage,
	wire.CodeNotFound:    ExitNoArray,
	wire.CodeConflict:    ExitConflict,
	wire.CodeIntegrity:   ExitIntegrity,
	wire.CodeLimit:       ExitLimit,
	wire.CodeNoSpace:     ExitLimit,
	wire.CodeBusy:        ExitTemporary,
	wire.CodeTemporary:   ExitTemporary,
	wire.CodeShutdown:    ExitTemporary,
	wire.CodeDeadline:    ExitDeadline,
}

// exitCodes maps errors to codes, first match by errors.Is. A package that
// has errors to tell apart adds its lines above the general ones.
var exitCodes = []struct {
	target error
	code   int
}{
	{worker.ErrInUse, ExitConflict},
	{worker.ErrNotSocket, ExitConflict},
	{worker.ErrDirectory, ExitFatal},
	{store.ErrLocked, ExitConflict},
	{store.ErrInvalid, ExitUsage},
	{store.ErrIntegrity, ExitIntegrity},
	{store.ErrNoSpace, ExitLimit},
	{array.ErrNPY, ExitUsage},
	{array.ErrUnsupportedDType, ExitUsage},
	{array.ErrShape, ExitUsage},
	{context.DeadlineExceeded, ExitDeadline},
	{os.ErrDeadlineExceeded, ExitDeadline},
	{syscall.ENOSPC, ExitLimit},
	{syscall.EDQUOT, ExitLimit},
	{syscall.EMFILE, ExitLimit},
	{syscall.ENFILE, ExitLimit},
	{syscall.EADDRINUSE, ExitConflict},
	{syscall.ECONNREFUSED, ExitNoServer},
	{syscall.ECONNRESET, ExitTemporary},
	{syscall.EPIPE, ExitTemporary},
	{io.ErrUnexpectedEOF, ExitTemporary},
	{fs.ErrPermission, ExitFatal},
	{syscall.EROFS, ExitFatal},
	{fs.ErrExist, ExitConflict},
}

// exitRules are for errors that a sentinel cannot name. They go after
// exitCodes.
var exitRules = []struct {
	matches func(error) bool
	code    int
}{
	{isTimeout, ExitDeadline},
	{isFailedDial, ExitNoServer},
}

// ExitError is an error that knows its exit code.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode returns the exit code of an error: that of the outermost
// [ExitError], else that of a server's failure, else of the first line of the
// tables that fits, else ExitOther.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	var failure *client.Error
	if errors.As(err, &failure) {
		if code, ok := failureCodes[failure.Code]; ok {
			return code
		}
	}
	for _, line := range exitCodes {
		if errors.Is(err, line.target) {
			return line.code
		}
	}
	for _, rule := range exitRules {
		if rule.matches(err) {
			return rule.code
		}
	}
	return ExitOther
}

// usageErrorf makes an error of wrong usage, exit code 2.
func usageErrorf(format string, args ...any) error {
	return &ExitError{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// asUsage marks an error as wrong usage unless it has a code of its own.
func asUsage(err error) error {
	var exit *ExitError
	if errors.As(err, &exit) {
		return err
	}
	return &ExitError{Code: ExitUsage, Err: err}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

func isFailedDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:")
	for _, line := range exitMeanings {
		fmt.Fprintf(&b, "\n  %2d  %s", line.code, line.meaning)
	}
	return b.String()
}
