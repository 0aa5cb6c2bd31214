package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"ndferry/internal/handover"
	"ndferry/internal/pace"
	"ndferry/internal/session"
	"ndferry/store"
)

// A transfer belongs to one worker. A connection whose first open operation is a PUT of another worker's transfer goes there, with what was
// read of it and the session as it stands; in any other state the client is told to try again.
//
// The reading goroutine lets it go, between two frames:
//
//	Begin or Join: OwnedError ──► leaving ──► the reader wakes up ──► depart: Export, Return
//	                                              │ not alone any more, or the master does not take it
//	                                              └──────────────────► stays: the client gets the error
const maxHops = 3 // how often a connection goes on

// departure is where a connection is to go, and what is told to its session if it stays.
type departure struct {
	to     int
	op     session.Operation
	result session.Result
}

// OwnerName is how a worker of a master is called where transfers say whose they are.
func OwnerName(master, index int) string { return fmt.Sprintf("worker %d of %d", index, master) }

// elsewhere returns the worker that has the transfer which err says is another process's; 0 when that is nobody of this server.
func (s *Server) elsewhere(err error) int {
	owned, ok := errors.AsType[*store.OwnedError](err)
	if !ok || s.cfg.Owner == "" {
		return 0
	}
	var own, its, server, other int
	if _, err := fmt.Sscanf(s.cfg.Owner, "worker %d of %d", &own, &server); err != nil {
		return 0
	}
	if _, err := fmt.Sscanf(owned.Owner, "worker %d of %d", &its, &other); err != nil || other != server || its == own {
		return 0
	}
	return its
}

// destination returns the worker to which a connection goes because of what an operation said; 0 when it stays.
func (s *Server) destination(meta *handover.Meta, ses *session.Session, op session.Operation, r session.Result) int {
	if r.Err == nil || op.Job != session.Begin && op.Job != session.Join || meta == nil || meta.Hops >= maxHops || !ses.Alone(op.Stream) {
		return 0
	}
	return s.elsewhere(r.Err)
}

// done tells the session of an operation, unless the connection is to leave because of it. Called with mu held.
func (c *conn) done(op session.Operation, r session.Result) {
	if !c.dead && !c.closing {
		if to := c.srv.destination(c.meta, c.ses, op, r); to > 0 {
			c.leaving.Store(&departure{to, op, r})
			if !c.inPayload { // else the reader sees it at the next frame
				c.nc.SetReadDeadline(time.Unix(1, 0))
			}
			c.changed.Broadcast()
			return
		}
	}
	c.ses.OnDone(op.ID, r)
}

// depart lets the connection go if it is to leave, and tells whether it is gone. head is the header that was read last, whose frame did not
// begin. Called by the reading goroutine.
func (c *conn) depart(head []byte) bool {
	d := c.leaving.Load()
	if d == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for (!c.out.empty() || c.working || c.beside > 0) && !c.dead {
		c.changed.Wait()
	}
	err := net.ErrClosed
	if !c.dead && !c.closing {
		err = c.goTo(d, head)
	}
	if err == nil {
		c.departed, c.dead = true, true
		c.srv.cfg.Log.Debug("connection returned", "peer", c.peer(), "to", d.to)
		return true
	}
	c.srv.cfg.Log.Debug("connection stays", "peer", c.peer(), "err", err)
	c.leaving.Store(nil)
	if !c.closing {
		c.nc.SetReadDeadline(time.Time{})
	}
	c.ses.OnDone(d.op.ID, d.result)
	c.act()
	return false
}

// goTo gives the connection to the master. Called with mu held.
func (c *conn) goTo(d *departure, head []byte) error {
	if !c.ses.Alone(d.op.Stream) {
		return errors.New("worker: something else is open on the connection")
	}
	state, err := c.ses.Export()
	if err != nil {
		return err
	}
	unread, _ := c.in.Peek(c.in.Buffered())
	m := *c.meta
	m.Hops++
	m.State, m.Preread = state, append(append([]byte(nil), head...), unread...)
	return c.srv.giveBack(c.nc, d.to, m)
}

// newMoved is newConn for a connection that another worker has let go.
func newMoved(s *Server, nc net.Conn, m *handover.Meta) (*conn, error) {
	c := newConn(s, nc)
	c.in.Reset(io.MultiReader(bytes.NewReader(bytes.Clone(m.Preread)), nc))
	var err error
	if c.ses, err = session.Import(s.sessionOf(pace.LinkOf(nc)), c.ex, c.started, m.State); err != nil {
		c.ex.Close()
		return nil, fmt.Errorf("worker: a connection from another worker: %w", err)
	}
	return c, nil
}
