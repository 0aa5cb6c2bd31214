package worker

import (
	"net"
	"time"

	"ndferry/internal/session"
)

// inline is how many bytes are written by whoever produced them; more go to the writer goroutine, so that a reader is never
// held up by its peer's full receive window for long.
const inline = 64 << 10

// outQueue holds what is to be written.
type outQueue struct {
	urgent []session.Action // between two sends they go first
	normal []session.Action
	bytes  int
	busy   bool // somebody writes; only he takes from the queue
}

func (q *outQueue) empty() bool { return len(q.urgent)+len(q.normal) == 0 && !q.busy }

func (q *outQueue) add(a session.Action) {
	if a.Urgent {
		q.urgent = append(q.urgent, a)
	} else {
		q.normal = append(q.normal, a)
	}
	q.bytes += size(a)
}

func size(a session.Action) (n int) {
	for _, s := range a.Segments {
		n += len(s)
	}
	return n
}

// take moves what is to be written next to batch: all that is urgent, then small sends up to a piece or one large.
func (q *outQueue) take(batch []session.Action) []session.Action {
	batch = append(batch, q.urgent...)
	q.urgent = q.urgent[:0]
	n := 0
	for len(q.normal) > 0 && (n == 0 || n+size(q.normal[0]) <= inline) {
		n += size(q.normal[0])
		batch = append(batch, q.normal[0])
		q.normal[0] = session.Action{}
		q.normal = q.normal[1:]
	}
	if len(q.normal) == 0 {
		q.normal = nil
	}
	for _, a := range batch {
		q.bytes -= size(a)
	}
	return batch
}

// drop tells the session that what is queued will not be written.
func (q *outQueue) drop(s *session.Session) {
	for _, a := range append(q.urgent, q.normal...) {
		if a.Token != 0 {
			s.OnSent(a.Token)
		}
	}
	q.urgent, q.normal, q.bytes = nil, nil, 0
}

// flush writes what is little, or hands it to the writer goroutine, and tells whether it wrote, so that there may be new
// actions. Called with mu held, which is released while it writes.
func (c *conn) flush() (wrote bool) {
	q := &c.out
	switch {
	case q.busy || len(q.urgent)+len(q.normal) == 0:
		return false
	case c.dead:
		q.drop(c.ses)
		return true
	case q.bytes > inline:
		q.busy = true
		c.tasks.Add(1)
		go func() {
			defer c.tasks.Done()
			c.mu.Lock()
			defer c.mu.Unlock()
			for !c.dead && len(q.urgent)+len(q.normal) > 0 {
				c.writeNext()
				c.actions()
			}
			q.busy = false
			c.act()
		}()
		return false
	}
	q.busy = true
	c.writeNext()
	q.busy = false
	return true
}

// writeNext writes one batch. Called with mu held and busy set; mu is released while it writes.
func (c *conn) writeNext() {
	batch := c.out.take(nil)
	var segments net.Buffers
	for _, a := range batch {
		segments = append(segments, a.Segments...)
	}
	c.mu.Unlock()
	c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.Stall))
	_, err := segments.WriteTo(c.nc)
	c.mu.Lock()
	if err != nil && !c.dead {
		c.srv.cfg.Log.Debug("connection broke", "peer", c.peer(), "err", err)
		c.dead = true
		c.nc.Close() // the reader ends
	}
	for _, a := range batch {
		if a.Token != 0 {
			c.ses.OnSent(a.Token)
		}
	}
}
