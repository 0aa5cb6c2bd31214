//go:build linux || darwin || freebsd

package evloop

import (
	"fmt"
	"sync"
)

// OffloadConfig tunes an Offload. The zero value works.
type OffloadConfig struct {
	// Workers is the number of goroutines; default 1.
	Workers int
	// PerConn is how many jobs of one connection may be in flight before
	// the loop stops reading from it; default 4. Twice as many is an error.
	PerConn int
}

// Offload runs what would block or hold up a loop (hashing, decoding, disk
// writes) on a bounded number of goroutines. The jobs of one connection run
// one after the other, in the order of Go, and their results come back to
// the loop in that order; jobs of different connections run side by side,
// each connection in its turn.
type Offload struct {
	cfg OffloadConfig
	wg  sync.WaitGroup

	mu     sync.Mutex
	more   *sync.Cond
	lanes  map[*Conn]*lane // guarded by mu
	ready  []*lane         // guarded by mu; lanes with jobs that no worker holds
	closed bool            // guarded by mu
}

// lane is the queue of one connection.
type lane struct {
	c    *Conn
	jobs []job
}

type job struct {
	work func()
	done func(c *Conn)
}

// NewOffload starts the workers.
func NewOffload(cfg OffloadConfig) *Offload {
	defaultInt(&cfg.Workers, 1)
	defaultInt(&cfg.PerConn, 4)
	o := &Offload{cfg: cfg, lanes: make(map[*Conn]*lane)}
	o.more = sync.NewCond(&o.mu)
	o.wg.Add(cfg.Workers)
	for range cfg.Workers {
		go o.worker()
	}
	return o
}

// Go runs work on a worker and then done on the connection's loop. Call it
// on the loop's goroutine. done is called exactly once, also when the
// connection has closed meanwhile (c.Closed tells): memory that work used is
// free only then. Until the last done has returned, Close waits with ending
// our side, and the connection takes output.
//
// At PerConn jobs in flight the connection is paused until one is done; at
// twice as many Go returns ErrBusy and runs nothing. A work that panics is
// not recovered: the program's state is unknown.
func (o *Offload) Go(c *Conn, work func(), done func(c *Conn)) error {
	if int(c.jobs) >= 2*o.cfg.PerConn {
		return fmt.Errorf("evloop: offload: %d jobs: %w", c.jobs, ErrBusy)
	}
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return fmt.Errorf("evloop: offload: %w", ErrClosed)
	}
	ln := o.lanes[c]
	fresh := ln == nil
	if fresh {
		ln = &lane{c: c}
		o.lanes[c] = ln
		o.ready = append(o.ready, ln)
	}
	ln.jobs = append(ln.jobs, job{work, done})
	o.mu.Unlock()
	if fresh {
		o.more.Signal() // not under mu, which the worker takes first
	}
	c.jobs++
	c.loop.jobs++
	c.loop.yield = true
	if int(c.jobs) >= o.cfg.PerConn {
		c.setPause(flPauseWork)
	}
	return nil
}

// Close waits for the jobs in flight and ends the workers. Their results
// still reach loops that run.
func (o *Offload) Close() {
	o.mu.Lock()
	o.closed = true
	o.more.Broadcast()
	o.mu.Unlock()
	o.wg.Wait()
}

func (o *Offload) worker() {
	defer o.wg.Done()
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.ready) == 0 {
			if o.closed {
				return
			}
			o.more.Wait()
		}
		ln := o.ready[0]
		o.ready = append(o.ready[:0], o.ready[1:]...)
		j := ln.jobs[0]
		ln.jobs = append(ln.jobs[:0], ln.jobs[1:]...)
		o.mu.Unlock()
		j.work()
		_ = ln.c.loop.Post(func() { o.finished(ln.c, j.done) })
		o.mu.Lock()
		if len(ln.jobs) > 0 {
			o.ready = append(o.ready, ln) // others first; one of them is this worker's next
		} else {
			delete(o.lanes, ln.c)
		}
	}
}

// finished runs on the loop.
func (o *Offload) finished(c *Conn, done func(*Conn)) {
	l := c.loop
	l.guarded(c, func() { done(c) }) // may still write, also after Close
	c.jobs--
	l.jobs--
	if int(c.jobs) < o.cfg.PerConn {
		c.clearPause(flPauseWork)
	}
	if c.state != stClosed {
		c.mark()
	}
}
