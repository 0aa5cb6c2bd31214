package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"ndferry/internal/pace"
	"ndferry/internal/session"
	"ndferry/store"
)

// Config is what a Server is made with. The zero value works.
type Config struct {
	Session session.Config
	Log     *slog.Logger  // default slog.Default()
	Driver  string        // LoopDriver, the default, or GoroutineDriver; what is no TCP or Unix socket is driven by goroutines anyway
	Loops   int           // event loops of driver loop; default GOMAXPROCS
	Frame   time.Duration // time for each 64 KiB inside a frame; default DefaultFrame
	Stall   time.Duration // time for a peer to take a cell; default DefaultStall
	Memory  int64         // bytes of cells and messages on their way to and from the store; default DefaultMemory()
	Conns   int           // connections at once; more wait to be accepted; default DefaultConns()

	Owner      string // what this process is called in the store, by OwnerName; empty: it serves alone
	PerAddress int    // connections at once from one address that is not of this host; more are closed; default DefaultPerAddress
}

// Drivers that Config names.
const (
	LoopDriver      = "loop"
	GoroutineDriver = "goroutine"
)

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Frame <= 0 {
		c.Frame = DefaultFrame
	}
	if c.Stall <= 0 {
		c.Stall = DefaultStall
	}
	if c.Driver == "" {
		c.Driver = LoopDriver
	}
	if c.Loops <= 0 {
		c.Loops = runtime.GOMAXPROCS(0)
	}
	if c.Memory <= 0 {
		c.Memory = DefaultMemory()
	}
	if c.Conns <= 0 {
		c.Conns = DefaultConns()
	}
	if c.PerAddress <= 0 {
		c.PerAddress = DefaultPerAddress
	}
	return c
}

// Server serves a store on any number of listeners. Its methods may be called from any goroutine.
type Server struct {
	cfg    Config // immutable after New but for Driver, which is guarded by mu
	procs  int    // immutable; processors, at the time of New
	store  store.Store
	pool   session.Pool // cells
	unread session.Pool // control frames that are being received
	admit  *admission

	owners session.Owners
	master atomic.Pointer[master] // nil: this process accepts by itself

	ctx    context.Context // ends when Shutdown gives up waiting
	cancel context.CancelFunc

	mu        sync.Mutex
	loops     *loops                 // guarded by mu; started by the first connection that they can drive
	conns     map[driven]struct{}    // guarded by mu
	listeners map[io.Closer]struct{} // guarded by mu
	draining  bool                   // guarded by mu
	done      sync.WaitGroup         // connections
}

// driven is a connection under either driver.
type driven interface {
	// drain ends it: at once when nothing is open or when it is forced, else when what is open has ended.
	drain(force bool)
}

// New returns a server over st, which stays the caller's to close, after Shutdown.
func New(st store.Store, cfg Config) *Server {
	s := &Server{cfg: cfg.withDefaults(), procs: runtime.GOMAXPROCS(0), store: st, conns: map[driven]struct{}{}, listeners: map[io.Closer]struct{}{}}
	s.pool.Limit(s.cfg.Memory)
	s.unread.Limit(s.cfg.Memory / unreadShare)
	s.admit = newAdmission(s.cfg.Conns, s.cfg.PerAddress)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// sessionOf is what a session over the link is made with.
func (s *Server) sessionOf(link pace.Link) session.Config {
	c := s.cfg.Session
	if c.Link == nil {
		c.Link = link
	}
	return c
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("worker: server closed")

// Serve accepts on ln until Shutdown, which closes it, and returns ErrServerClosed; or until ln fails. On Linux a *net.TCPListener is
// closed at once under driver loop, which accepts on a copy of its descriptor: only Shutdown ends that.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	if tcp, ok := ln.(*net.TCPListener); ok && s.looping() {
		if o, err := s.openDoor(tcp); err == nil {
			s.listeners[o] = struct{}{}
			s.mu.Unlock()
			return o.serve()
		}
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	pause := time.Duration(0)
	for {
		if !s.admit.wait() {
			return ErrServerClosed
		}
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

// ServeConn takes nc, which the server closes, and returns when the loop has taken it, or at once. A connection over a limit is closed.
func (s *Server) ServeConn(nc net.Conn) {
	addr := ""
	if a := nc.RemoteAddr(); a != nil {
		addr = a.String()
	}
	t := s.admit.enter(addr)
	if t == nil {
		s.cfg.Log.Debug("connection refused: over a limit", "peer", addr)
		nc.Close()
		return
	}
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		t.leave()
		nc.Close()
		return
	}
	if pollable(nc) && s.looping() {
		if fd, ok := descriptor(nc); ok {
			lc := newLoopConn(s.loops.place(), t)
			s.conns[lc] = struct{}{}
			s.done.Add(1)
			s.mu.Unlock()
			lc.d.adopt(fd, lc)
			return
		}
	}
	defer s.mu.Unlock()
	s.start(newConn(s, nc), t)
}

// start drives a connection by goroutines. Called with mu held.
func (s *Server) start(c *conn, t *ticket) {
	c.ticket = t
	s.conns[c] = struct{}{}
	s.done.Add(1)
	go func() {
		c.serve()
		s.forget(c, t)
	}()
}

// looping starts the loops, and tells whether connections are driven by them. Called with mu held.
func (s *Server) looping() bool {
	if s.loops == nil && s.cfg.Driver == LoopDriver {
		var err error
		if s.loops, err = startLoops(s, s.cfg.Loops); err != nil {
			s.cfg.Log.Error("no event loop: connections are driven by goroutines", "err", err)
			s.cfg.Driver = GoroutineDriver
		}
	}
	return s.loops != nil
}

// forget ends the account of a connection that holds nothing any more.
func (s *Server) forget(c driven, t *ticket) {
	s.mu.Lock()
	delete(s.conns, c)
	if lc, ok := c.(*loopConn); ok {
		lc.d.placed--
	}
	s.mu.Unlock()
	t.leave()
	s.done.Done()
}

// Shutdown stops accepting, lets what is in flight finish until ctx ends, tells the rest to try again, and returns when every
// connection is closed. The error is ctx's when something had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.admit.close()
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		go c.drain(false)
	}
	s.mu.Unlock()
	finished := make(chan struct{})
	go func() {
		s.done.Wait()
		if s.loops != nil { // nobody starts them any more
			s.loops.stop()
		}
		close(finished)
	}()
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

// Connections returns how many there are.
func (s *Server) Connections() int {
	s.admit.mu.Lock()
	defer s.admit.mu.Unlock()
	return s.admit.open
}

// Accepted returns how many connections there were so far.
func (s *Server) Accepted() uint64 {
	s.admit.mu.Lock()
	defer s.admit.mu.Unlock()
	return s.admit.entered
}

// reserveUnread waits until a control frame of n bytes may be received.
func (s *Server) reserveUnread(n int64) {
	for !s.unread.Reserve(n) {
		free := make(chan struct{})
		s.unread.Await(false, func() { close(free) })
		<-free
	}
}
