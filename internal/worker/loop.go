package worker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/evloop"
	"ndferry/internal/session"
)

// queueBound is given to evloop as the size of an output queue: the bounds are ours. What waits is answers, at which reading
// pauses (answersHigh), and cells, ahead of which nothing is read from the store (cellsHigh).
const queueBound = 1 << 40

// loops are the event loops of a server, and the workers that they share.
type loops struct {
	all   []*loopDriver   // immutable
	next  int             // guarded by srv.mu
	bulk  *evloop.Offload // cells, commits, verification: waits for disks
	calls *evloop.Offload // what others should not wait long for
}

// loopDriver drives sessions on one event loop. Its fields are immutable after start but where they say so.
type loopDriver struct {
	*loops
	srv  *Server
	loop *evloop.Loop
	done sync.WaitGroup // Run

	placed   int           // guarded by srv.mu; connections that were given to it and are not forgotten
	thread   ownThread     // owned by the loop's goroutine
	beside   int           // owned by the loop's goroutine; of all connections, as in loopConn
	entering chan struct{} // one for each connection that was accepted and not adopted
}

// adoptAhead is how many new connections a turn of the loop begins with at most.
const adoptAhead = 8

// bulkWorkers and callWorkers wait for the disk most of their time.
const (
	bulkWorkers = 64
	callWorkers = 16
)

// warnings passes on what an operator should see: that clients break off is their affair.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

func startLoops(s *Server, n int) (*loops, error) {
	ls := &loops{}
	for range n {
		loop, err := evloop.New(evloop.Config{
			LowWater: queueBound, HighWater: queueBound, MaxOut: queueBound,
			FlushTimeout: s.cfg.Stall, Spin: true, Log: slog.New(warnings{s.cfg.Log.Handler()}),
		})
		if err != nil {
			ls.stop()
			return nil, fmt.Errorf("worker: %w", err)
		}
		d := &loopDriver{loops: ls, srv: s, loop: loop, entering: make(chan struct{}, adoptAhead)}
		d.thread = ownThread{loop: loop, log: s.cfg.Log}
		ls.all = append(ls.all, d)
		d.done.Go(func() {
			if err := loop.Run(context.Background()); err != nil {
				s.cfg.Log.Error("event loop", "err", err)
			}
		})
	}
	ls.bulk = evloop.NewOffload(evloop.OffloadConfig{Workers: bulkWorkers, PerConn: 2 * inFlight})
	ls.calls = evloop.NewOffload(evloop.OffloadConfig{Workers: callWorkers, PerConn: 2 * inFlight})
	return ls, nil
}

// place returns the loop with fewest connections, each in its turn when there are several, for one more, which counts from now on and
// not from its HELLO: of clients that connect at once all would go to one loop. Called with srv.mu held.
func (ls *loops) place() *loopDriver {
	ls.next++
	best := ls.all[ls.next%len(ls.all)]
	for _, d := range ls.all {
		if d.placed < best.placed {
			best = d
		}
	}
	best.placed++
	return best
}

// stop ends the loops. No connection is left.
func (ls *loops) stop() {
	for _, d := range ls.all {
		_ = d.loop.Post(d.loop.Stop)
		d.done.Wait()
	}
	if ls.bulk != nil {
		ls.bulk.Close()
		ls.calls.Close()
	}
}

// pollable tells that nc is nothing but a socket.
func pollable(nc net.Conn) bool {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// descriptor returns a copy of the descriptor of nc, which it closes; ok is false when nc has none, and is still open.
func descriptor(nc net.Conn) (fd int, ok bool) {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, false
	}
	fd = -1
	if raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		return -1, false
	}
	nc.Close()
	return fd, true
}

// adopt gives a descriptor to the loop, which closes it. It waits while the loop has many to take: who connects without end may
// not keep it from those who are connected.
func (d *loopDriver) adopt(fd int, lc *loopConn) {
	d.entering <- struct{}{}
	err := d.loop.Post(func() {
		<-d.entering
		if _, err := d.loop.Adopt(fd, nil, lc); err != nil {
			lc.dead = true
			lc.finish()
		}
	})
	if err != nil {
		<-d.entering
		_ = unix.Close(fd)
		d.srv.forget(lc, lc.ticket)
	}
}

// watchdog calls late when a period passed while something was due and no step was made. It belongs to the loop's goroutine.
type watchdog struct {
	timer  *evloop.Timer
	period time.Duration
	due    bool
	steps  int // since the timer was armed, with the beginning of what is due
	want   int // as many make a period's progress
	late   func()
}

// begin says that something is due from now on.
func (w *watchdog) begin(l *evloop.Loop) {
	if w.due {
		return
	}
	w.due = true
	w.steps += w.want
	if w.timer == nil {
		w.steps = 0
		w.arm(l)
	}
}

func (w *watchdog) arm(l *evloop.Loop) {
	w.timer = l.After(w.period, func() {
		w.timer = nil
		switch {
		case !w.due:
		case w.steps < w.want:
			w.late()
		default:
			w.steps = 0
			w.arm(l)
		}
	})
}

func (w *watchdog) end() { w.due = false }

func (w *watchdog) stop() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.due = false
}

// lane is where an operation is run.
func (d *loopDriver) lane(j session.Job) *evloop.Offload {
	switch j {
	case session.Stat, session.List, session.Delete, session.Open, session.Shut, session.Begin:
		return d.calls
	}
	return d.bulk
}
