package worker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"ndferry/internal/session"
	"ndferry/store"
)

// Config is what a Server is made with. The zero value works.
type Config struct {
	Session session.Config
	Log     *slog.Logger  // default slog.Default()
	Frame   time.Duration // time for each 64 KiB inside a frame; default 10 s
	Stall   time.Duration // time for a peer to take a cell; default 2 min
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Frame <= 0 {
		c.Frame = 10 * time.Second
	}
	if c.Stall <= 0 {
		c.Stall = 2 * time.Minute
	}
	return c
}

// Server serves a store on any number of listeners. Its methods may be called from any goroutine.
type Server struct {
	cfg   Config
	store store.Store
	pool  session.Pool

	owners session.Owners

	ctx    context.Context // ends when Shutdown gives up waiting
	cancel context.CancelFunc

	mu        sync.Mutex
	conns     map[*conn]struct{}        // guarded by mu
	listeners map[net.Listener]struct{} // guarded by mu
	draining  bool                      // guarded by mu
	done      sync.WaitGroup            // connections
}

// New returns a server over st, which stays the caller's to close, after Shutdown.
func New(st store.Store, cfg Config) *Server {
	s := &Server{cfg: cfg.withDefaults(), store: st, conns: map[*conn]struct{}{}, listeners: map[net.Listener]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("worker: server closed")

// Serve accepts on ln until Shutdown, which closes it, and returns ErrServerClosed; or until ln fails.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	pause := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.ServeConn(nc)
		case s.closing():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Out of descriptors or memory, or a client that was gone already: the next accept may work.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.cfg.Log.Warn("accept", "err", err, "again_in", pause)
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
			}
		}
	}
}

func (s *Server) closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// ServeConn takes nc, which the server closes, and returns at once.
func (s *Server) ServeConn(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.done.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.done.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// Shutdown stops accepting, lets what is in flight finish until ctx ends, tells the rest to try again, and returns when every
// connection is closed. The error is ctx's when something had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		go c.drain(false)
	}
	s.mu.Unlock()
	finished := make(chan struct{})
	go func() { s.done.Wait(); close(finished) }()
	select {
	case <-finished:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		go c.drain(true)
	}
	s.mu.Unlock()
	s.cancel()
	<-finished
	return ctx.Err()
}
