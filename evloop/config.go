//go:build linux || darwin || freebsd

package evloop

import (
	"errors"
	"log/slog"
	"time"
)

// Errors to test for with errors.Is.
var (
	// ErrClosed: the connection or the loop is closed or closing.
	ErrClosed = errors.New("closed")
	// ErrQueueFull: Config.MaxOut bytes wait already; nothing was queued.
	ErrQueueFull = errors.New("output queue full")
	// ErrUnreadFull: the handler consumed nothing of a full input buffer.
	ErrUnreadFull = errors.New("input buffer full and nothing consumed")
	// ErrIdle: nothing was read or written for the time given to SetIdle.
	ErrIdle = errors.New("idle for too long")
	// ErrTimeout: the peer took too long to connect, to take the last
	// output, or to end its side.
	ErrTimeout = errors.New("timed out")
	// ErrBudget: the process-wide Budget stayed exhausted and this
	// connection held most of it.
	ErrBudget = errors.New("memory budget exhausted")
	// ErrBusy: the connection has work in flight that cannot be moved, or
	// too much of it.
	ErrBusy = errors.New("work in flight")
	// ErrDetached ends what was in flight when Detach took a connection.
	ErrDetached = errors.New("detached")
	// ErrDst: the memory given to ReadInto vanished (a truncated mapping).
	ErrDst = errors.New("destination memory is gone")
	// ErrTooLong: a line or a frame is longer than its limit.
	ErrTooLong = errors.New("message too long")
	// ErrPanic: a handler panicked; only its connection was closed.
	ErrPanic = errors.New("handler panicked")
	// ErrLoopStopped: the loop stopped with the connection open.
	ErrLoopStopped = errors.New("loop stopped")
)

// Limits of one turn, so that no connection holds up the others.
const (
	readBuffer    = 64 << 10  // the loop's one buffer: a plain read per event
	readAhead     = 4 << 10   // how much of it catches what follows a ReadInto
	sinkPiece     = 256 << 10 // one call of ReadInto: small enough to still be in cache for a checksum
	sinkBudget    = 512 << 10 // ReadInto, per connection and turn
	writeBudget   = 2 << 20   // per connection and turn: one call as long as the receiver keeps up
	writeAlone    = 4         // as many times more while nobody else moves much
	directWrite   = 16 << 10  // a Write of at least this many bytes goes out before it is copied
	eventBatch    = 128       // events per wait
	postedBatch   = 256       // posted functions per turn
	acceptBatch   = 16        // connections accepted per turn and listener: each takes some 20 µs
	lingerBytes   = 16 << 20  // discarded after our end before we stop listening
	slowCallback  = 10 * time.Millisecond
	acceptPauseLo = 10 * time.Millisecond
	acceptPauseHi = time.Second
	wheelTick     = 100 * time.Millisecond
	wheelSlots    = 512
	evictAfter    = 5 * time.Second
	turnTime      = int64(500 * time.Microsecond) // bulk of a turn ends then, each connection's piece as it is
	heavyOutput   = 64 << 10                      // queued bytes that make a connection bulk
)

// turnLimits are the limits that tests make small.
type turnLimits struct{ piece, sink, write, direct int }

// Config tunes a Loop. The zero value works.
type Config struct {
	// Backend is "auto" (the default), "epoll", "kqueue", "poll" or
	// "select".
	Backend string
	// MaxConns is the most connections that listeners of this loop, or of
	// its group, keep open at once. At the limit they stop accepting, and
	// clients wait in the backlog. 0: no limit but the descriptors'.
	MaxConns int
	// LowWater, HighWater and MaxOut bound what waits to be sent on one
	// connection, in bytes. At HighWater the loop stops reading from it,
	// below LowWater it goes on and calls Drained, at MaxOut writes are
	// refused with ErrQueueFull. Defaults 256 KiB, 1 MiB, 64 MiB.
	LowWater, HighWater, MaxOut int
	// MaxUnread is how many bytes a handler may leave unconsumed. Default
	// 1 MiB and 64 KiB. Conn.SetMaxUnread changes it for one connection.
	MaxUnread int
	// Budget, if not nil, bounds what the connections of one or more loops
	// buffer together.
	Budget *Budget
	// Idle is the default of Conn.SetIdle. 0: no limit.
	Idle time.Duration
	// FlushTimeout is how long Close waits for queued output to leave,
	// Linger how long it then waits for the peer to end its side,
	// DialTimeout how long Dial waits. Defaults 10 s, 1 s, 10 s.
	FlushTimeout, Linger, DialTimeout time.Duration
	// Spin lets the loop ask for events for up to 50 µs before it sleeps, as
	// long as messages come that fast: a peer on this machine is answered
	// sooner, for processor time that somebody else could have. While a
	// ReadInto is in progress every loop does so, with naps after 20 µs.
	Spin bool
	// Log gets what operators need: the chosen backend, errors with the
	// peer's address, slow callbacks. Default slog.Default().
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	defaultInt(&c.LowWater, 256<<10)
	defaultInt(&c.HighWater, 1<<20)
	defaultInt(&c.MaxOut, 64<<20)
	defaultInt(&c.MaxUnread, 1<<20+64<<10)
	defaultDuration(&c.FlushTimeout, 10*time.Second)
	defaultDuration(&c.Linger, time.Second)
	defaultDuration(&c.DialTimeout, 10*time.Second)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

func defaultInt(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

func defaultDuration(v *time.Duration, d time.Duration) {
	if *v == 0 {
		*v = d
	}
}
