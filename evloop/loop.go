//go:build linux || darwin || freebsd

package evloop

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Loop waits for many descriptors in one goroutine, the one that calls Run.
// That goroutine owns every field but those under mu, every Conn, and every
// callback. Post is the only method for other goroutines.
type Loop struct {
	cfg   Config
	p     Poller
	k     kernel
	clock func() int64 // monotonic ns, never 0
	base  time.Time    // the clock's zero
	ctx   context.Context

	conns     []*Conn // by descriptor
	listeners map[int32]*Listener
	watchers  map[int32]*Watcher
	live      int
	sinks     int           // connections with a ReadInto in progress
	load      *atomic.Int64 // live, for the group that places connections; nil without one
	jobs      int           // Offload jobs in flight
	quota     *quota

	ev         []Event
	heavy      []ready // scratch of dispatch
	rot        int     // where dispatch starts in a full batch
	hot        bool    // the last wait found events: ask again before sleeping
	yield      bool    // this turn ran code that may have made goroutines ready
	gives      yielder
	cpu        turnCPU
	turnAt     int64   // when the turn began
	bulkSpin   spinner // while a ReadInto is in progress
	smallSpin  spinner // else
	cedes      ceder
	now        int64 // read once per event
	cur        *Conn // is being handled: will be settled
	dirty      []*Conn
	again      []*Conn
	starved    []*Conn
	sender     *Conn // the last that sent much
	dead       []*Conn
	timers     timerHeap
	wheel      wheel
	evictTimer *Timer

	lim    turnLimits
	rbuf   []byte
	pool   blocks
	queues []*outQueue
	bufs   [][]byte      // scratch of flush
	one    [1][]byte     // scratch of Write
	segs   []segment     // scratch of Send
	dones  []func(error) // scratch of flush
	passed []int         // scratch of recvFiles

	stats   LoopStats
	slowLog int64
	draining,
	stopping bool

	waking atomic.Bool
	mu     sync.Mutex
	posted []func() // guarded by mu
	closed bool     // guarded by mu
	wakers int      // guarded by mu; of those that call Post, who are about to wake the loop
	spare  []func() // the other half of the double buffer
}

// New returns a loop that has not started. It logs which backend it chose.
func New(cfg Config) (*Loop, error) {
	p, err := Open(cfg.Backend)
	if err != nil {
		return nil, err
	}
	l := newLoop(cfg, p, newSystem(), nil)
	l.cfg.Log.Info("event loop", "backend", p.Name())
	return l, nil
}

func newLoop(cfg Config, p Poller, k kernel, clock func() int64) *Loop {
	l := &Loop{
		cfg: cfg.withDefaults(), p: p, k: k, clock: clock, ctx: context.Background(),
		listeners: make(map[int32]*Listener),
		watchers:  make(map[int32]*Watcher),
		ev:        make([]Event, eventBatch),
		rbuf:      make([]byte, readBuffer),
		bufs:      make([][]byte, 0, maxIov),
		gives:     newYielder(),
		cpu:       turnCPU{read: threadCPU},
		lim:       turnLimits{sinkPiece, sinkBudget, writeBudget, directWrite},
		base:      time.Now(),
	}
	if clock == nil {
		l.clock = func() int64 { return int64(time.Since(l.base)) + 1 }
	}
	l.quota = &quota{max: int64(cfg.MaxConns)}
	l.now = l.clock()
	l.wheel.init(l.now)
	l.stats.Backend = p.Name()
	return l
}

// Run turns the loop until ctx is done, Stop is called or a Drain is over;
// then it closes listeners and connections, waits for Offload jobs, and
// returns. The error is nil unless the backend failed. Run can be called
// once.
func (l *Loop) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = l.Post(l.stop) })()
	var err error
	for !l.stopping && err == nil {
		err = l.turn()
	}
	l.shutdown()
	if err != nil {
		return fmt.Errorf("evloop: run: %s: %w", l.p.Name(), err)
	}
	return nil
}

// Stop makes Run return after this turn; open connections are aborted. Call
// it on the loop's goroutine.
func (l *Loop) Stop() { l.stop() }

func (l *Loop) stop() { l.stopping = true }

// Drain closes the listeners and stops the loop when the last connection has
// closed, or after d with those that are left aborted. Call it on the loop's
// goroutine.
func (l *Loop) Drain(d time.Duration) {
	if l.draining {
		return
	}
	l.draining = true
	l.closeListeners()
	l.After(d, l.stop)
	if l.live == 0 {
		l.stop()
	}
}

// Conns returns the open connections. Call it on the loop's goroutine.
func (l *Loop) Conns() []*Conn {
	list := make([]*Conn, 0, l.live)
	for _, c := range l.conns {
		if c != nil && c.state != stClosed {
			list = append(list, c)
		}
	}
	return list
}

// turn is one round: settle what changed, wait, handle what is ready, then
// what was posted and what is due, and close descriptors last.
func (l *Loop) turn() error {
	l.beforeSleep()
	d := l.timeout()
	if d != 0 && (l.hot || l.yield) { // ask before sleeping: while events flow no wait gives up the processor
		n, err := l.p.Wait(l.ev, 0)
		if n > 0 || err != nil {
			return l.handleEvents(n, err)
		}
		l.hot = false
		if n, err := l.spin(); n > 0 || err != nil {
			return l.handleEvents(n, err)
		}
		if l.yield { // goroutines that this loop made ready go first
			l.yield = false
			if l.gives.queued() {
				l.give()
			}
		}
		return nil // and look again: the wait may have taken a wake-up
	}
	n, err := l.p.Wait(l.ev, d)
	if d != 0 {
		l.stats.Sleeps++
		l.gives.slept(l.clock())
	}
	return l.handleEvents(n, err)
}

func (l *Loop) handleEvents(n int, err error) error {
	if err != nil {
		return err
	}
	l.hot = n > 0
	start := l.clock()
	l.now, l.turnAt = start, start
	l.cpu.begin(start)
	l.stats.Turns++
	l.stats.Events += int64(n)
	l.dispatch(n)
	l.runAgain()
	l.runPosted()
	l.runTimers()
	l.reap()
	l.now = l.clock()
	l.stats.turnTook(l.now-start, l.cpu.worked(l.now-start))
	if l.gives.due(l.now) {
		l.give()
	}
	if l.draining && l.live == 0 {
		l.stopping = true
	}
	return nil
}

// timeout is how long the next wait may sleep; < 0 for ever.
func (l *Loop) timeout() time.Duration {
	if len(l.again) > 0 || len(l.dirty) > 0 || l.waking.Load() || l.stopping {
		return 0
	}
	at := l.wheel.next()
	if t := l.timers.next(); t != 0 && (at == 0 || t < at) {
		at = t
	}
	if at == 0 {
		return -1
	}
	return time.Duration(max(0, at-l.clock()))
}

func (l *Loop) beforeSleep() {
	list := l.dirty
	l.dirty = nil
	for i, c := range list {
		list[i] = nil
		c.flags &^= flListed
		if c.state != stClosed {
			l.handle(c, (*Conn).settle)
		}
	}
	if l.dirty == nil {
		l.dirty = list[:0]
	}
	l.reap()
}

// dispatch handles what is ready: first what takes little, then bulk, which
// is bounded in time, so that a small message waits for one turn's worth of
// it, however many transfers there are. What is left over is reported again.
func (l *Loop) dispatch(n int) {
	if n == len(l.ev) { // a full batch: no descriptor is always the last one
		l.rot++
	}
	for i := range n {
		e := &l.ev[(i+l.rot)%n]
		if c := l.at(e.FD); c == nil {
			if ln := l.listeners[e.FD]; ln != nil {
				ln.ready()
			} else if w := l.watchers[e.FD]; w != nil {
				l.call(w.ready)
			}
		} else if n > 1 && c.heavy() {
			l.heavy = append(l.heavy, ready{c, *e})
		} else {
			l.serveEvent(c, *e)
		}
	}
	if len(l.heavy) > 0 {
		l.dispatchHeavy()
		clear(l.heavy)
		l.heavy = l.heavy[:0]
	}
}

// dispatchHeavy handles bulk until the turn's time is used up, who waited
// longest first.
func (l *Loop) dispatchHeavy() {
	slices.SortStableFunc(l.heavy, func(a, b ready) int { return cmp.Compare(a.c.served, b.c.served) })
	for _, r := range l.heavy {
		if l.now-l.turnAt >= turnTime {
			return
		}
		r.c.served = l.stats.Turns
		l.serveEvent(r.c, r.e)
	}
}

// ready is an event and whose it is.
type ready struct {
	c *Conn
	e Event
}

// heavy tells that handling the connection will move much.
func (c *Conn) heavy() bool { return c.sink != nil || c.out.size() >= heavyOutput }

func (l *Loop) serveEvent(c *Conn, e Event) {
	if c.state == stClosed { // earlier in this batch
		return
	}
	l.cur = c
	l.serve(c, e)
	l.cur = nil
	l.slow(c)
}

// slow reads the clock after a connection was handled, and reports one that
// held up the loop.
func (l *Loop) slow(c *Conn) {
	was := l.now
	l.now = l.clock()
	if took := l.now - was; took >= int64(slowCallback) {
		l.stats.SlowCallbacks++
		if l.now-l.slowLog >= int64(time.Second) {
			l.slowLog = l.now
			l.cfg.Log.Warn("slow callback holds up the loop", "peer", c.peerString(), "took", time.Duration(took))
		}
	}
}

// serve handles one ready connection: first output, then input, then what
// both left behind. A panic in a handler ends here.
func (l *Loop) serve(c *Conn, e Event) {
	defer l.recovered(c)
	if c.state == stDialing {
		c.connected()
		c.settle()
		return
	}
	if e.Ready&Write != 0 || e.Hup {
		c.flags &^= flBlocked
	}
	switch {
	case c.mayRead():
		if e.Ready&Read != 0 || e.Hup {
			c.readable()
		}
	case e.Hup:
		c.hungUp()
	}
	if c.state != stClosed {
		c.settle()
	}
}

// hungUp handles a hang-up while nothing is to be read. The condition stays,
// so unless it is an error the poller must stop reporting it.
func (c *Conn) hungUp() {
	if c.kind != kindPlain {
		if e := c.loop.k.SockError(int(c.fd)); e != 0 {
			c.fail("hang-up", e)
			return
		}
	}
	c.flags |= flQuiet
}

func (l *Loop) handle(c *Conn, f func(*Conn)) {
	l.cur = c
	defer func() { l.cur = nil }()
	defer l.recovered(c)
	f(c)
}

// guarded calls f, which runs a handler's code while the connection is
// being closed.
func (l *Loop) guarded(c *Conn, f func()) {
	defer l.recovered(c)
	f()
}

func (l *Loop) recovered(c *Conn) {
	if r := recover(); r != nil {
		l.stats.Panics++
		l.cfg.Log.Error("handler panicked", "peer", c.peerString(), "panic", r, "stack", string(debug.Stack()))
		c.finish(fmt.Errorf("evloop: %w: %v", ErrPanic, r))
	}
}

func (l *Loop) pushAgain(c *Conn) {
	if c.flags&flAgain == 0 {
		c.flags |= flAgain
		l.again = append(l.again, c)
	}
}

// runAgain goes on with connections that have bytes or budget left over.
func (l *Loop) runAgain() {
	list := l.again
	l.again = nil
	for i, c := range list {
		if l.now-l.turnAt >= turnTime { // the rest, and what was added, in the next turn
			l.again = append(list[i:], l.again...)
			return
		}
		list[i] = nil
		c.flags &^= flAgain
		if c.state != stClosed {
			l.handle(c, func(c *Conn) {
				if c.flags&flFresh != 0 && len(c.in) == 0 && c.mayRead() {
					c.readable()
				} else {
					c.refeed()
				}
				c.flags &^= flFresh
				if c.state != stClosed {
					c.settle()
				}
			})
			l.slow(c)
		}
	}
	if l.again == nil {
		l.again = list[:0]
	}
}

func (l *Loop) runTimers() {
	l.wheel.advance(l.now, l.expired)
	for {
		f := l.timers.due(l.now)
		if f == nil {
			return
		}
		l.stats.Timers++
		l.yield = true
		l.call(f)
	}
}

// expired looks at a connection whose place on the wheel has come.
func (l *Loop) expired(c *Conn) {
	at, why := c.deadline, ErrTimeout
	if c.state == stOpen {
		if c.idle == 0 {
			return
		}
		at, why = c.st.lastIO+c.idle, ErrIdle
	}
	switch {
	case l.now < at: // it was active since: again later
		l.wheel.arm(c, at)
	case c.state == stLingering:
		c.finish(nil)
	default:
		l.stats.Timeouts++
		c.finish(fmt.Errorf("evloop: %s: %w", c.peerString(), why))
	}
}

// reap closes the descriptors of finished connections, after every event of
// the batch that could name them.
func (l *Loop) reap() {
	for i := 0; i < len(l.dead); i++ { // closing may finish others
		c := l.dead[i]
		l.dead[i] = nil
		l.conns[c.fd] = nil
		l.k.Close(int(c.fd))
	}
	l.dead = l.dead[:0]
}

func (l *Loop) at(fd int32) *Conn {
	if int(fd) < len(l.conns) {
		return l.conns[fd]
	}
	return nil
}

// shutdown aborts what is open and waits for work that still runs elsewhere.
func (l *Loop) shutdown() {
	l.closeListeners()
	for _, w := range l.watchers {
		w.Stop()
	}
	for _, c := range l.Conns() {
		c.finish(fmt.Errorf("evloop: %w", ErrLoopStopped))
	}
	l.reap()
	for l.jobs > 0 {
		if _, err := l.p.Wait(l.ev, 10*time.Millisecond); err != nil {
			break
		}
		l.runPosted()
		l.reap()
	}
	l.mu.Lock()
	l.closed = true
	todo := l.posted
	l.posted = nil
	l.mu.Unlock()
	l.awaitWakers()
	_ = l.p.Close()
	for _, f := range todo {
		l.call(f)
	}
	l.reap()
}

// count changes the number of open connections.
func (l *Loop) count(d int) {
	l.live += d
	if l.load != nil {
		l.load.Add(int64(d))
	}
}

func (l *Loop) takeDone() []func(error) {
	d := l.dones[:0]
	l.dones = nil
	return d
}

const queuesKept = 256

func (l *Loop) getQueue() *outQueue {
	if n := len(l.queues); n > 0 {
		q := l.queues[n-1]
		l.queues = l.queues[:n-1]
		return q
	}
	return &outQueue{}
}

func (l *Loop) putQueue(q *outQueue) {
	if len(l.queues) < queuesKept && cap(q.segs) <= 2*maxIov {
		clear(q.segs[:cap(q.segs)])
		q.segs, q.head, q.bytes = q.segs[:0], 0, 0
		l.queues = append(l.queues, q)
	}
}
