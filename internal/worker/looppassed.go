//go:build linux

package worker

import (
	"bytes"
	"net/netip"
	"time"

	"ndferry/evloop"
	"ndferry/internal/handover"
)

// receiver returns the loop that receives what a master passes; nil when goroutines drive.
func (s *Server) receiver() *loopDriver {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.looping() {
		return nil
	}
	return s.loops.all[0]
}

// receive has the loop receive what the master passes, so that a connection which it keeps wakes nobody else. How the channel ended is told to ended.
func (d *loopDriver) receive(ch *handover.Worker, told func(time.Duration), ended chan<- error) error {
	begun := make(chan error, 1)
	err := d.loop.Post(func() {
		fd, err := ch.Attach(func(after time.Duration, f func()) { d.loop.After(after, f) })
		if err != nil {
			begun <- err
			return
		}
		var w *evloop.Watcher
		w, err = d.loop.Watch(fd, func() {
			if over, err := ch.Turn(d.srv.passed, told); over {
				w.Stop()
				ended <- err
			}
		})
		begun <- err
	})
	if err != nil {
		return err
	}
	return <-begun
}

// adoptPassed is adopt for a descriptor that the first loop has received, with what was read from it. It runs there; preread is copied.
func (d *loopDriver) adoptPassed(fd int, client string, preread []byte, lc *loopConn) {
	adopt := func() {
		peer, err := netip.ParseAddrPort(client)
		if err == nil {
			_, err = d.loop.AdoptTCP(fd, peer, preread, lc)
		} else {
			_, err = d.loop.Adopt(fd, preread, lc)
		}
		if err != nil {
			lc.dead = true
			lc.finish()
		}
	}
	if d == d.all[0] {
		adopt()
		return
	}
	preread = bytes.Clone(preread)
	if d.loop.Post(adopt) != nil {
		end(fd)
		d.srv.forget(lc, lc.ticket)
	}
}
