package worker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"ndferry/internal/handover"
	"ndferry/internal/pace"
	"ndferry/internal/session"
	"ndferry/wire"
)

// readAhead is the buffer that headers and small messages pass through; the head of a cell that was read with a header is
// copied out of it, the rest goes straight to its memory.
const readAhead = 16 << 10

// conn drives the session of one connection.
type conn struct {
	srv *Server
	nc  net.Conn
	in  *bufio.Reader // owned by the reading goroutine

	mu      sync.Mutex
	changed sync.Cond // on mu: a result came, memory was given back
	ses     *session.Session
	ex      *session.Executor
	jobs    []session.Operation // guarded by mu; submitted, waiting for the worker goroutine
	working bool                // guarded by mu; the worker goroutine runs
	beside  int                 // guarded by mu; operations that run beside it, see Executor.Parallel
	out     outQueue            // guarded by mu
	timer   *time.Timer         // guarded by mu
	closing bool                // guarded by mu; the session wants to close when out is empty
	dead    bool                // guarded by mu; reading or writing failed
	ticket  *ticket
	started time.Time
	tasks   sync.WaitGroup // worker and writer goroutines

	meta      *handover.Meta            // immutable; of a connection that a master passed
	leaving   atomic.Pointer[departure] // set with mu held; nil: it stays
	inPayload bool                      // guarded by mu
	departed  bool                      // guarded by mu; it is another worker's
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, in: bufio.NewReaderSize(nc, readAhead), started: time.Now()}
	c.changed.L = &c.mu
	c.ex = session.NewExecutor(s.ctx, s.store, &s.pool)
	c.ex.Validate(s.cfg.Session.Validate)
	c.ex.Checkpoint(s.cfg.Session.Checkpoint)
	c.ex.Share(&s.owners, func() { nc.Close() })
	c.ses = session.New(s.sessionOf(pace.LinkOf(nc)), c.ex, c.started)
	return c
}

// serve reads until the connection ends, and then waits for what still runs.
func (c *conn) serve() {
	defer func() {
		if p := recover(); p != nil {
			c.srv.cfg.Log.Error("connection: panic", "peer", c.peer(), "panic", p, "stack", string(debug.Stack()))
			c.fail(fmt.Errorf("panic: %v", p))
		}
		c.finish()
	}()
	c.mu.Lock()
	c.act()
	c.mu.Unlock()
	for c.frame() {
	}
}

// frame reads one frame and tells whether there may be another.
func (c *conn) frame() bool {
	if c.depart(nil) {
		return false
	}
	head, err := c.in.Peek(1)
	if err == nil && c.in.Buffered() < wire.HeaderSize {
		c.deadline(time.Now().Add(c.srv.cfg.Frame))
		head, err = c.in.Peek(wire.HeaderSize)
		c.deadline(time.Time{})
	} else if err == nil {
		head, err = c.in.Peek(wire.HeaderSize)
	}
	if c.leaving.Load() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // also when the session closes: then this says nothing
		c.mu.Lock()
		c.ses.BadHeader(wire.Failf(wire.CodeDeadline, "a frame's header took longer than %v", c.srv.cfg.Frame))
		c.act()
		c.mu.Unlock()
	}
	if err != nil {
		if len(head) > 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
			c.srv.cfg.Log.Debug("connection ended inside of a header", "peer", c.peer(), "err", err)
		}
		c.fail(err)
		return false
	}
	h, err := wire.ParseHeader(head)
	var raw [wire.HeaderSize]byte
	copy(raw[:], head)
	c.in.Discard(wire.HeaderSize)
	if err == nil && h.Kind != wire.Chunk && h.Length > smallFrame {
		c.srv.reserveUnread(int64(h.Length))
		defer c.srv.unread.Release(int64(h.Length))
	}
	p, ok := c.header(h, err)
	for ok && p.Verdict == session.Wait { // the connection is to leave
		if c.depart(raw[:]) {
			return false
		}
		p, ok = c.header(h, nil)
	}
	if !ok {
		return false
	}
	if h.Length == 0 {
		return true
	}
	crc, want, status, err := c.payload(h, p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inPayload = false
	switch {
	case err == nil && p.Verdict == session.Skip:
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.ses.BadHeader(wire.Failf(wire.CodeDeadline, "%v: less than 64 KiB in %v", h.Kind, c.srv.cfg.Frame))
	case err != nil && wire.CodeOf(err) == wire.CodeProtocol:
		c.ses.BadHeader(err)
	case err != nil:
		c.failLocked(err)
		return false
	default:
		c.ses.OnPayload(crc, want, status)
	}
	if c.ses.Greeted() {
		c.ticket.greeted()
	}
	c.act()
	return !c.ses.Closed()
}

// deadline sets when reading ends, unless the connection is closing: then it has ended.
func (c *conn) deadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && c.leaving.Load() == nil {
		c.nc.SetReadDeadline(t)
	}
}

// header asks the session what to do with a frame, and waits while it says so.
func (c *conn) header(h wire.Header, err error) (session.Payload, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.ses.BadHeader(err)
		c.act()
		return session.Payload{}, false
	}
	p := c.ses.OnHeader(h)
	c.act()
	for p.Verdict == session.Wait && !c.dead && c.leaving.Load() == nil {
		if p.Full {
			c.srv.pool.Await(false, func() {
				c.mu.Lock()
				c.changed.Broadcast()
				c.mu.Unlock()
			})
		}
		c.changed.Wait()
		p = c.ses.OnHeader(h)
		c.act()
	}
	c.inPayload = h.Length > 0 && p.Verdict != session.Wait
	return p, p.Verdict != session.Refuse && !c.dead && !c.ses.Closed()
}

// payload reads payload and trailer, the payload to the memory of p.
func (c *conn) payload(h wire.Header, p session.Payload) (crc, want uint32, status wire.Status, err error) {
	defer c.nc.SetReadDeadline(time.Time{})
	memory := p.Memory
	if p.Verdict == session.Skip {
		memory = c.srv.pool.Take(min(int(h.Length), wire.Piece))
		defer c.srv.pool.Give(memory)
	}
	for left := int(h.Length); left > 0; {
		n := min(left, wire.Piece)
		piece := memory[:n]
		if p.Verdict == session.Read {
			piece = memory[int(h.Length)-left:][:n]
		}
		c.patience(n)
		if _, err = io.ReadFull(c.in, piece); err != nil {
			return
		}
		crc = wire.Update(crc, piece)
		left -= n
	}
	var b [wire.TrailerSize]byte
	c.patience(len(b))
	if _, err = io.ReadFull(c.in, b[:]); err != nil {
		return
	}
	want, status, err = wire.ParseTrailer(b[:])
	return
}

// patience sets how long n bytes in the middle of a frame may take.
func (c *conn) patience(n int) {
	if c.in.Buffered() < n {
		c.nc.SetReadDeadline(time.Now().Add(time.Duration(n+64<<10-1) / (64 << 10) * c.srv.cfg.Frame))
	}
}

// act does what the session asks for. The caller holds mu, which is released while something is written here.
func (c *conn) act() {
	for {
		c.actions()
		if !c.flush() {
			break
		}
	}
	if c.closing && c.out.empty() {
		c.nc.SetReadDeadline(time.Now()) // wakes the reader, which finishes
	}
	c.changed.Broadcast()
}

// actions takes the actions of the session: quick operations are run here, others by the worker goroutine. Called with mu held.
func (c *conn) actions() {
	for {
		a, ok := c.ses.Next()
		if !ok {
			return
		}
		switch a.Do {
		case session.Send:
			c.out.add(a)
		case session.Submit:
			if c.dead && !c.ex.Wanted(&a.Op) {
				c.ses.OnDone(a.Op.ID, session.Result{Err: session.ErrUnserved})
				continue
			}
			if !c.working && c.ex.Quick(&a.Op) {
				c.done(a.Op, c.ex.Run(a.Op, nil))
				continue
			}
			c.jobs = append(c.jobs, a.Op)
			if !c.working {
				c.working = true
				c.tasks.Add(1)
				go c.work()
			}
		case session.Abandon:
			c.ex.Abandon(a.Stream)
		case session.Arm:
			c.arm(a.At)
		case session.Close:
			c.closing = true
			if a.Err != nil {
				c.srv.cfg.Log.Debug("connection closed", "peer", c.peer(), "why", a.Err)
			}
		}
	}
}

// work runs operations in order until there are none, waiting a moment for more.
func (c *conn) work() {
	defer c.tasks.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.jobs) > 0 {
		op := c.jobs[0]
		c.jobs[0] = session.Operation{} // do not keep its data
		c.jobs = c.jobs[1:]
		if c.runBeside(op) {
			continue
		}
		c.mu.Unlock()
		r := c.ex.Run(op, func(r session.Result) {
			c.mu.Lock()
			c.ses.OnDone(op.ID, r)
			c.act()
			c.mu.Unlock()
		})
		c.mu.Lock()
		c.done(op, r)
		c.act()
	}
	c.jobs = nil
	c.working = false
	c.changed.Broadcast()
}

func (c *conn) arm(at time.Time) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(time.Until(at), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.dead {
			return
		}
		c.ses.OnTick(time.Now())
		c.act()
	})
}

// fail marks the connection as broken.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *conn) failLocked(err error) {
	if !c.dead && !c.closing && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.srv.cfg.Log.Debug("connection broke", "peer", c.peer(), "err", err)
	}
	if !c.closing {
		c.dead = true
	}
	c.changed.Broadcast()
}

// drain ends the connection: at once when nothing is open or when it is forced, else when what is open has ended.
func (c *conn) drain(force bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if force {
		time.AfterFunc(lastWords, func() { c.nc.Close() })
	}
	c.ses.Drain(force)
	c.act()
}

// finish sends what is left, says good-bye so that the peer can read it, and gives everything up.
func (c *conn) finish() {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.departed {
		c.mu.Unlock()
		c.ex.Close()
		return
	}
	if c.dead {
		c.out.drop(c.ses)
	}
	for !c.out.empty() && !c.dead {
		c.changed.Wait()
	}
	linger := c.closing && !c.dead
	c.dead = true
	c.changed.Broadcast()
	c.mu.Unlock()
	if linger {
		c.linger()
	}
	c.nc.Close()
	c.tasks.Wait()
	c.mu.Lock()
	c.out.drop(c.ses)
	c.actions()
	c.mu.Unlock()
	c.tasks.Wait()
	c.ex.Close()
}

// linger reads what the peer still sends, for a moment: closing with unread bytes would reset the connection and could
// destroy our last words.
func (c *conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		c.nc.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, io.LimitReader(c.nc, 64<<20))
	}
}

func (c *conn) peer() string {
	if a := c.nc.RemoteAddr(); a != nil && a.String() != "" {
		return a.String()
	}
	return "local"
}
