//go:build linux

package master

import (
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"syscall"
	"time"

	"ndferry/internal/handover"
)

// Defaults of Config, and bounds.
const (
	DefaultTake  = time.Second
	DefaultStart = time.Minute
	DefaultDrain = 30 * time.Second

	killAfter = 2 * time.Second // a worker may take longer than its time to end
	longLife  = time.Second     // a worker that lived so long is started again at once
	maxHops   = 3               // how often a connection may be returned
)

// Config is what a Master is made with. Command and Listeners must be given, the rest may be zero.
type Config struct {
	Workers   int
	Command   func() *exec.Cmd                          // makes the command of a worker; its ExtraFiles are the master's
	Start     func(index int, generation uint32) []byte // what a worker is told to serve
	Listeners []net.Listener                            // TCP or Unix; the master's to close
	Dispatch  string                                    // RoundRobin, the default, or LeastLoaded
	Credit    int                                       // offers that a worker leaves unanswered at most
	Conns     int                                       // connections at once, in all workers; more wait to be accepted; 0: any number
	PerWorker int                                       // connections at once in a worker; 0: any number
	Take      time.Duration                             // for a worker to answer an offer
	StartTime time.Duration                             // for a worker to be ready
	Drain     time.Duration                             // for workers to finish at the end; they are told
	Backoff   Backoff
	Log       *slog.Logger
	Step      handover.Hook // nil in production
}

// Backoff is how long the master waits before it starts a worker again that did not live long.
type Backoff struct{ Min, Max time.Duration } // default 100 ms, 10 s

func (c Config) withDefaults() Config {
	if c.Dispatch == "" {
		c.Dispatch = RoundRobin
	}
	if c.Credit <= 0 {
		c.Credit = handover.DefaultCredit
	}
	if c.Take <= 0 {
		c.Take = DefaultTake
	}
	if c.StartTime <= 0 {
		c.StartTime = DefaultStart
	}
	if c.Drain < 0 {
		c.Drain = 0
	}
	if c.Backoff.Min <= 0 {
		c.Backoff.Min = 100 * time.Millisecond
	}
	if c.Backoff.Max < c.Backoff.Min {
		c.Backoff.Max = max(c.Backoff.Min, 10*time.Second)
	}
	if c.Start == nil {
		c.Start = func(int, uint32) []byte { return nil }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

func (c *Config) check() error {
	switch {
	case c.Workers < 1 || c.Workers > MaxWorkers:
		return fmt.Errorf("master: %d workers, want 1 to %d", c.Workers, MaxWorkers)
	case c.Dispatch != RoundRobin && c.Dispatch != LeastLoaded:
		return fmt.Errorf("master: dispatch %q, want %s or %s", c.Dispatch, RoundRobin, LeastLoaded)
	case c.Credit > handover.MaxCredit:
		return fmt.Errorf("master: credit of %d offers, at most %d", c.Credit, handover.MaxCredit)
	case c.Command == nil:
		return fmt.Errorf("master: no command of a worker")
	}
	for _, ln := range c.Listeners {
		if _, ok := ln.(syscall.Conn); !ok {
			return fmt.Errorf("master: a listener of type %T has no descriptor", ln)
		}
	}
	return nil
}

// creditOf keeps what is in flight within a quarter of the descriptors that this process may have.
func creditOf(want, workers int) int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return min(want, handover.DefaultCredit)
	}
	return max(1, min(want, int(min(r.Cur, 1<<20))/4/workers))
}
