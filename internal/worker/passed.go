//go:build linux

package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass"
	"ndferry/internal/handover"
)

// master is the way to the process that passes connections.
type master struct{ *handover.Worker }

// Attend serves the connections that a master passes over ch, and returns when the channel has ended and so has, within the time
// that the master gave or else drain, what was in flight. It ends earlier by Shutdown.
func (s *Server) Attend(ctx context.Context, ch *handover.Worker, drain time.Duration) error {
	s.master.Store(&master{ch})
	ended := make(chan struct{})
	begin := func(d time.Duration) {
		ch.Drain()
		go func() {
			late, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			if s.Shutdown(late) != nil {
				s.cfg.Log.Warn("connections were cut; their clients may try again", "drain", d)
			}
			close(ended)
		}()
	}
	var begun atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		if begun.CompareAndSwap(false, true) {
			begin(drain)
		}
	})
	defer stop()
	told := func(d time.Duration) {
		if begun.CompareAndSwap(false, true) {
			begin(d)
		}
	}
	err := make(chan error, 1)
	if d := s.receiver(); d == nil {
		go func() { err <- ch.Run(context.WithoutCancel(ctx), s.passed, told) }()
	} else if e := d.receive(ch, told, err); e != nil {
		return e
	}
	select {
	case e := <-err: // the master is dead, or says what nobody understands
		if begun.CompareAndSwap(false, true) {
			s.cfg.Log.Warn("the master is gone: nothing new is taken", "drain", drain, "err", e)
			begin(drain)
		}
		<-ended
		return e
	case <-ended:
		return nil
	}
}

// passed begins to serve a connection that the master passed, with the session that another worker froze, if one did.
func (s *Server) passed(c *handover.Conn) error {
	words := s.master.Load().Words()
	fd, err := c.FD()
	if err != nil {
		words.Closed()
		return err
	}
	t := s.admit.enter(c.Client)
	if t == nil {
		s.cfg.Log.Debug("connection refused: over a limit", "peer", c.Client)
		end(fd)
		words.Closed()
		return nil
	}
	t.shared, t.left = true, words.Closed
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		t.leave()
		end(fd)
		return nil
	}
	if !s.looping() {
		return s.startPassed(fd, t, &c.Meta)
	}
	lc := newLoopConn(s.loops.place(), t)
	meta := c.Meta
	meta.Preread, meta.State = nil, nil
	lc.meta, lc.state = &meta, bytes.Clone(c.State)
	s.conns[lc] = struct{}{}
	s.done.Add(1)
	s.mu.Unlock()
	lc.d.adoptPassed(fd, c.Client, c.Preread, lc)
	s.mu.Lock()
	return nil
}

// startPassed drives a passed connection by goroutines. Called with mu held.
func (s *Server) startPassed(fd int, t *ticket, m *handover.Meta) error {
	meta := *m
	meta.Preread, meta.State = nil, nil
	nc, err := sharedConn(fd)
	if err != nil {
		t.leave()
		return err
	}
	var driver *conn
	if len(m.State) == 0 {
		driver = newConn(s, nc)
	} else if driver, err = newMoved(s, nc, m); err != nil {
		t.leave()
		return errors.Join(err, nc.Close())
	}
	driver.meta = &meta
	s.start(driver, t)
	return nil
}

// giveBack gives a connection to the master, for the worker that is to have it, and lets go of it.
func (s *Server) giveBack(nc net.Conn, to int, m handover.Meta) error {
	held, ok := nc.(interface {
		syscall.Conn
		release() error
	})
	if !ok {
		return errors.ErrUnsupported
	}
	if err := s.giveFile(held, to, m); err != nil {
		return err
	}
	return held.release()
}

func (s *Server) giveFile(file syscall.Conn, to int, m handover.Meta) error {
	master := s.master.Load()
	if master == nil {
		return errors.ErrUnsupported
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	return master.Return(ctx, &handover.Return{To: uint32(to), Meta: m}, file)
}

// giveFD is giveBack for a descriptor that is closed in any case; when it was not given the connection has ended.
func (s *Server) giveFD(fd, to int, m handover.Meta) error {
	err := s.giveFile(fdpass.FD(fd), to, m)
	if err != nil {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	}
	return errors.Join(err, unix.Close(fd))
}

// end ends a connection of which others have copies.
func end(fd int) {
	_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	unix.Close(fd)
}

// sharedConn makes a connection of a descriptor of which other processes may have copies, for a while: its Close ends it for the peer all
// the same. fd is closed, also on an error.
func sharedConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "passed")
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("worker: a passed connection: %w", err)
	}
	switch nc := nc.(type) {
	case *net.TCPConn:
		return sharedTCP{nc}, nil
	case *net.UnixConn:
		return sharedUnix{nc}, nil
	}
	return nil, errors.Join(fmt.Errorf("worker: a passed %T", nc), nc.Close())
}

// sharedTCP keeps all of *net.TCPConn, writing of several buffers at once included.
type sharedTCP struct{ *net.TCPConn }

// Close ends the connection.
func (c sharedTCP) Close() error {
	shut(c.TCPConn)
	return c.TCPConn.Close()
}

func (c sharedTCP) release() error { return c.TCPConn.Close() }

type sharedUnix struct{ *net.UnixConn }

// Close ends the connection.
func (c sharedUnix) Close() error {
	shut(c.UnixConn)
	return c.UnixConn.Close()
}

func (c sharedUnix) release() error { return c.UnixConn.Close() }

// shut tells the peer that the connection has ended, which is no news when it ended it.
func shut(c syscall.Conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
}
