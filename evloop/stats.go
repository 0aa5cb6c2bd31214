//go:build linux || darwin || freebsd

package evloop

import (
	"math/bits"
	"time"
)

// counters are a connection's numbers as the loop keeps them: times in ns of
// the loop's clock.
type counters struct {
	lastIO, bytesIn, bytesOut int64 // with the next three, of every message
	reads, writes, outPeak    int64
	openedAt                  int64
	short, eagain, frames     int64
	paused, inPeak            int64
	filesDropped, discarded   int64
}

// ConnStats are the numbers of one connection. Counts of bytes are payload
// bytes of the stream.
type ConnStats struct {
	ConnectedAt       time.Time
	LastIO            time.Time
	Duration          time.Duration // monotonic
	BytesIn, BytesOut int64
	Reads, Writes     int64 // system calls
	ShortWrites       int64 // the kernel took less than was offered
	Again             int64 // calls that found nothing to do (EAGAIN)
	Frames            int64 // messages that Lines, Frames and ReadInto completed
	Paused            time.Duration
	InPeak, OutPeak   int64 // bytes buffered at most
	FilesDropped      int64 // refused descriptors, at least
}

// Stats returns the connection's numbers up to now. Call it on the loop's
// goroutine; Handler.Close is not too late.
func (c *Conn) Stats() ConnStats {
	l, s := c.loop, &c.st
	end := l.clock()
	paused := s.paused
	if c.pausedAt != 0 {
		paused += end - c.pausedAt
	}
	return ConnStats{
		ConnectedAt: l.base.Add(time.Duration(s.openedAt)), LastIO: l.base.Add(time.Duration(s.lastIO)),
		Duration: time.Duration(end - s.openedAt),
		BytesIn:  s.bytesIn, BytesOut: s.bytesOut, Reads: s.reads, Writes: s.writes,
		ShortWrites: s.short, Again: s.eagain, Frames: s.frames, Paused: time.Duration(paused),
		InPeak: s.inPeak, OutPeak: s.outPeak, FilesDropped: s.filesDropped,
	}
}

// CountFrame adds one to the connection's completed messages, for handlers
// that do their own framing.
func (c *Conn) CountFrame() { c.st.frames++ }

// LoopStats are the numbers of a loop.
type LoopStats struct {
	Backend       string
	Conns         int   // open now
	Turns         int64 // waits that were followed by handling
	Sleeps        int64 // waits that were allowed to sleep
	Spins         int64 // times the loop asked on before it slept, see spin.go
	SpinsMissed   int64 // those that ended with sleeping
	Naps          int64 // short sleeps while it asked on
	Yields        int64 // times the loop let other goroutines run before it had slept
	Events        int64
	Registrations int64 // calls that changed what the poller watches
	Posted        int64
	Timers        int64
	Accepted      int64
	Closed        int64
	Detached      int64
	Errors        int64 // connections that failed
	Timeouts      int64
	Panics        int64
	SlowCallbacks int64 // took 10 ms or more
	Evicted       int64 // closed for the memory budget
	AcceptPauses  int64 // out of descriptors or memory
	LongestTurn   time.Duration
	// LongestWork is the most that a turn can have worked: what it took, less
	// the time in which its thread did not run, to 100 µs and never too little
	// (Linux; else LongestTurn).
	LongestWork time.Duration
	// TurnTimes counts turns by duration: entry i those of less than 2^i µs
	// and not less than the entry before. WorkTimes counts them by work.
	TurnTimes, WorkTimes [24]int64
}

func (s *LoopStats) turnTook(took, worked int64) {
	s.LongestTurn = max(s.LongestTurn, time.Duration(took))
	s.LongestWork = max(s.LongestWork, time.Duration(worked))
	s.TurnTimes[log2Micros(took)]++
	s.WorkTimes[log2Micros(worked)]++
}

// log2Micros is the entry of ns in TurnTimes.
func log2Micros(ns int64) int {
	return min(bits.Len64(uint64(ns/1000)), len(LoopStats{}.TurnTimes)-1)
}

// Stats returns the loop's numbers up to now. Call it on the loop's
// goroutine.
func (l *Loop) Stats() LoopStats {
	s := l.stats
	s.Conns = l.live
	return s
}
