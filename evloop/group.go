//go:build linux || darwin || freebsd

package evloop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Group is several loops behind one listener: the first accepts, and gives
// each connection to the loop that has fewest. MaxConns counts them all
// together. More loops than half of the processors leave none for other
// work.
type Group struct {
	loops []*Loop
	load  []atomic.Int64 // connections given to each loop and not yet closed
}

// NewGroup returns a group of n loops that have not started.
func NewGroup(n int, cfg Config) (*Group, error) {
	if n < 1 {
		return nil, fmt.Errorf("evloop: group of %d loops", n)
	}
	g := &Group{load: make([]atomic.Int64, n)}
	for i := range n {
		l, err := New(cfg)
		if err != nil {
			for _, l := range g.loops {
				_ = l.p.Close()
			}
			return nil, err
		}
		if i > 0 {
			l.quota = g.loops[0].quota
		}
		l.load = &g.load[i]
		g.loops = append(g.loops, l)
	}
	return g, nil
}

// Loops returns the loops. Each belongs to the goroutine that Run gives it.
func (g *Group) Loops() []*Loop { return g.loops }

// Listen is Loop.Listen for the group. handler is called on the goroutine
// of the loop that gets the connection.
func (g *Group) Listen(network, address string, handler func() Handler) (*Listener, error) {
	ln, err := g.loops[0].Listen(network, address, handler)
	if err == nil && len(g.loops) > 1 {
		ln.place = func(fd int, peer unix.Sockaddr) { g.give(fd, peer, handler) }
	}
	return ln, err
}

func (g *Group) give(fd int, peer unix.Sockaddr, handler func() Handler) {
	best := 0
	for i := range g.load {
		if g.load[i].Load() < g.load[best].Load() {
			best = i
		}
	}
	l := g.loops[best]
	if best == 0 {
		_, _ = l.adopt(fd, peer, nil, handler())
		return
	}
	l.load.Add(1) // counts at once: a burst would all go to the same loop
	err := l.Post(func() {
		l.load.Add(-1)
		_, _ = l.adopt(fd, peer, nil, handler())
	})
	if err != nil {
		l.load.Add(-1)
		_ = unix.Close(fd)
		l.quota.release()
	}
}

// Run runs every loop until ctx is done or all have stopped by themselves. A
// backend that fails stops them all.
func (g *Group) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(g.loops))
	var wg sync.WaitGroup
	for i, l := range g.loops {
		wg.Go(func() {
			if errs[i] = l.Run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Post has f called on every loop. Any goroutine may call it.
func (g *Group) Post(f func(l *Loop)) {
	for _, l := range g.loops {
		_ = l.Post(func() { f(l) })
	}
}
