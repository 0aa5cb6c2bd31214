package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/client"
	"ndferry/evloop"
	"ndferry/internal/handover"
	"ndferry/internal/master"
	"ndferry/internal/worker"
)

// echoStart is what a worker of ndferry echo is told.
type echoStart struct {
	Backend string       `json:"backend"`
	Lines   bool         `json:"lines"`
	MaxLine int64        `json:"max_line"`
	Loops   int          `json:"loops"`
	Idle    milliseconds `json:"idle_ms"`
	Drain   milliseconds `json:"drain_ms"`
	Greet   bool         `json:"greet"`
}

// echoWorkers is echo as a master.
func (a *app) echoWorkers(ctx context.Context, c *echoConfig) error {
	if _, err := evloop.New(evloop.Config{Backend: c.backend, Log: a.log}); err != nil {
		return usageErrorf("%w", err)
	}
	ln, err := worker.Listen(ctx, c.listen.Network, c.listen.Address, worker.ListenConfig{SocketMode: fs.FileMode(0o600)})
	if err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	start := encodeStart(workerStart{Echo: &echoStart{
		Backend: c.backend, Lines: c.lines, MaxLine: int64(c.maxLine), Loops: c.loops, Idle: inMilliseconds(c.idle), Drain: inMilliseconds(c.drain), Greet: c.greet,
	}})
	m, err := master.New(master.Config{
		Workers: int(c.workers), Command: a.workerCommand, Listeners: listenersOf(ln), Dispatch: c.dispatch, Conns: c.maxConns, PerWorker: connLimit(c.loops), Drain: c.drain, Log: a.log,
		Start: func(int, uint32) []byte { return start },
	})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	show := make(chan os.Signal, 1)
	signal.Notify(show, syscall.SIGUSR1)
	defer signal.Stop(show)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-show:
				s := m.Status()
				a.log.Info("dispatch", "accepted", s.Accepted, "offered", s.Offered, "redispatched", s.Redispatched, "cut", s.Cut,
					"touched_p50", inSeconds(s.P50), "touched_p99", inSeconds(s.P99))
				for _, w := range s.Workers {
					a.log.Info("worker", "worker", w.Worker, "pid", w.PID, "state", w.State, "connections", w.Connections, "restarts", w.Restarts)
					if w.State == "ready" {
						_ = syscall.Kill(w.PID, syscall.SIGUSR1) // they tell of their clients
					}
				}
			}
		}
	}()
	return startedError(a.runMaster(ctx, m, func() error {
		return a.printListening(echoListening{
			Addr:    client.Addr{Network: c.listen.Network, Address: ln.Addr().String()}.String(),
			Backend: c.backend, Loops: c.loops, Workers: int(c.workers),
		})
	}))
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// workerEcho is a worker of ndferry echo.
func (a *app) workerEcho(ctx context.Context, ch *handover.Worker, cfg *echoStart) (err error) {
	defer func() { err = errors.Join(err, ch.Close()) }()
	group, err := evloop.NewGroup(cfg.Loops, evloop.Config{Backend: cfg.Backend, MaxConns: connLimit(cfg.Loops), Idle: cfg.Idle.duration(), Log: a.log})
	if err != nil {
		return a.workerFailed(ch, err)
	}
	show := make(chan os.Signal, 1)
	signal.Notify(show, syscall.SIGUSR1)
	done := make(chan struct{})
	defer close(done)
	go a.showClients(group, show, done)
	c := echoConfig{lines: cfg.Lines, maxLine: sizeValue(cfg.MaxLine)}
	inner := c.handler(a.log)
	greeting := ""
	if cfg.Greet {
		greeting = fmt.Sprintf("worker %d\n", ch.Index())
	}
	drain := func(d time.Duration) {
		ch.Drain()
		group.Post(func(l *evloop.Loop) { l.Drain(d) })
	}
	defer context.AfterFunc(ctx, func() { drain(cfg.Drain.duration()) })()
	// The first loop takes what the master passes: a connection that it keeps costs no wake-up.
	first := group.Loops()[0]
	fd, err := ch.Attach(func(d time.Duration, f func()) { first.After(d, f) })
	if err != nil {
		return a.workerFailed(ch, err)
	}
	p := &passedTo{loops: group.Loops(), new: func() *passedHandler {
		return &passedHandler{Handler: inner(), greeting: greeting, words: ch.Words()}
	}}
	var w *evloop.Watcher
	w, err = first.Watch(fd, func() {
		ended, err := ch.Turn(p.take, drain)
		if !ended {
			return
		}
		w.Stop()
		if err != nil {
			a.log.Error("worker: the channel to the master", "err", err)
		}
		drain(cfg.Drain.duration())
	})
	if err != nil {
		return a.workerFailed(ch, err)
	}
	if err := ch.Ready(ctx); err != nil {
		return err
	}
	return group.Run(context.WithoutCancel(ctx))
}

// passedTo gives connections that a master passed to loops. It belongs to the first loop's goroutine.
type passedTo struct {
	loops []*evloop.Loop
	next  int
	new   func() *passedHandler
}

// take implements handover.Handler.
func (p *passedTo) take(pc *handover.Conn) error {
	fd, err := pc.FD()
	if err != nil {
		return err
	}
	at := p.next % len(p.loops)
	p.next++
	h, l := p.new(), p.loops[at]
	peer, notTCP := netip.ParseAddrPort(pc.Client)
	adopt := func() {
		var err error
		if notTCP == nil {
			_, err = l.AdoptTCP(fd, peer, nil, h)
		} else {
			_, err = l.Adopt(fd, nil, h)
		}
		if err != nil && !h.opened {
			h.words.Closed()
		}
	}
	if at == 0 {
		adopt()
		return nil
	}
	if err := l.Post(adopt); err != nil {
		unix.Close(fd)
		h.words.Closed()
		return err
	}
	return nil
}

// passedHandler serves a connection that a master passed.
type passedHandler struct {
	evloop.Handler
	greeting string
	words    *handover.Words
	opened   bool
}

// Open greets.
func (h *passedHandler) Open(c *evloop.Conn) {
	h.opened = true
	h.Handler.Open(c)
	if h.greeting == "" {
		return
	}
	if _, err := c.Write([]byte(h.greeting)); err != nil {
		c.Abort(err)
	}
}

// Close ends the connection for the peer, too, of which others may have copies.
func (h *passedHandler) Close(c *evloop.Conn, err error) {
	_ = unix.Shutdown(c.FD(), unix.SHUT_RDWR)
	h.Handler.Close(c, err)
	if h.opened {
		h.words.Closed()
	}
}
