//go:build linux || darwin || freebsd

package fdpass

import (
	"errors"
	"os"
)

// Errors to test for with errors.Is. The system's own error, where there is
// one, is in the same chain.
var (
	// ErrTimeout is os.ErrDeadlineExceeded: a deadline passed. Nothing of a
	// SOCK_SEQPACKET message was sent or received.
	ErrTimeout = os.ErrDeadlineExceeded

	// ErrTruncated: the message or its descriptors did not fit, or the kernel
	// could not install a descriptor. All that arrived have been closed.
	ErrTruncated = errors.New("message truncated")

	// ErrReceiverLimit: this process is at its limit of open files, so the
	// kernel dropped descriptors meant for it. Comes with ErrTruncated.
	ErrReceiverLimit = errors.New("receiver is at its limit of open files")

	// ErrCount: another number of descriptors than was asked for. All that
	// arrived have been closed.
	ErrCount = errors.New("wrong number of descriptors")

	// ErrNone: descriptors were asked for and none came. Comes with ErrCount.
	ErrNone = errors.New("no descriptor")

	// ErrTooMany: more than MaxFiles descriptors in one Send.
	ErrTooMany = errors.New("too many descriptors in one message")

	// ErrInFlight: too many descriptors of this user are sent and not yet
	// received (ETOOMANYREFS). Back-pressure: nothing was sent, try again.
	ErrInFlight = errors.New("too many descriptors in flight")

	// ErrPeerGone: the other end is closed or its process is dead.
	ErrPeerGone = errors.New("peer is gone")

	// ErrEmpty: a message without a byte, which a receiver could not tell from
	// the end of the connection.
	ErrEmpty = errors.New("empty message")

	// ErrRefused: the receiver takes no descriptors (see Conn.SetAcceptFiles).
	ErrRefused = errors.New("receiver takes no descriptors")

	// ErrTaken: the descriptor has left the Files already.
	ErrTaken = errors.New("descriptor already taken or closed")

	// ErrInUse: a live process owns the address.
	ErrInUse = errors.New("address is held by a live owner")

	// ErrNotSocket: something that is not a socket lies at the path.
	ErrNotSocket = errors.New("not a socket")

	// ErrDirectory: the directory of the path lets others interfere.
	ErrDirectory = errors.New("directory is not private")

	// ErrPeerDenied: the peer runs as a user that is not allowed.
	ErrPeerDenied = errors.New("peer is not allowed")

	// ErrFrame: a frame of the stream framing breaks its rules.
	ErrFrame = errors.New("malformed frame")
)
