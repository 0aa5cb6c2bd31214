package session

import (
	"fmt"
	"time"

	"ndferry/internal/pace"
	"ndferry/wire"
)

// Config is what a Session is made with. The zero value works.
type Config struct {
	Software  string           // named in HELLO
	Window    uint64           // raw bytes of cells that the peer may have outstanding; default and least 32 MiB
	ReadAhead int              // cells read for a GET before the peer took them; default 3
	Handshake time.Duration    // time to the peer's HELLO; default 5 s
	Validate  string           // of compressed cells, for the Executor: ValidateFull (default) or ValidateHeader
	Now       func() time.Time // default time.Now
	Link      pace.Link        // to the peer; nil: not known, and the peer may always have Window

	// Checkpoint, for the Executor, is how many bytes of a resumable PUT may be lost with the server: half are made durable as they come, and as
	// much is under way at most; default 64 MiB.
	Checkpoint int
}

// defaultWindow lets a cell of any size in while another is written, and keeps 16 MiB in hand while up to wire.CreditStep are owed.
const (
	defaultWindow = wire.FirstCredit
	grantPause    = 5 * time.Second // without a grant, after which progress is worth one
	stuckAfter    = time.Second     // without a cell, after which nothing is withheld
)

func (c Config) withDefaults() Config {
	if c.Window < defaultWindow {
		c.Window = defaultWindow
	}
	if c.ReadAhead <= 0 {
		c.ReadAhead = 3
	}
	if c.Handshake <= 0 {
		c.Handshake = 5 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Software == "" {
		c.Software = "ndferry"
	}
	return c
}

// Memory gives payloads a place. [Executor] implements it.
type Memory interface {
	// Take returns size bytes for a cell of the stream's upload. lent tells that they are the upload's own.
	Take(stream uint32, cell, size int) (p []byte, lent bool)
	// Give returns what Take gave, or the Data of a ReadCell, when it is not lent.
	Give(p []byte)
}

// Session is the server's side of one connection.
//
//	        HELLO of the peer                 Close pushed
//	opening ────────────────────► open ────────────────────► closed
//
// Each operation has a state of its own in put.go, get.go and call.go.
type Session struct {
	cfg     Config // immutable after New
	mem     Memory
	actions []Action
	head    int

	greeted  bool // the peer's HELLO came
	closed   bool
	draining bool
	peer     wire.HelloMessage
	last     uint32 // newest stream
	puts     map[uint32]*put
	gets     map[uint32]*get
	calls    map[uint32]*call
	asked    lastGet
	ops      map[uint64]*Operation // submitted and not done
	spare    *Operation            // memory for the next
	nextOp   uint64
	repeats  int             // of ops, those that are Repeat
	tokens   map[uint64]sent // sent cells whose memory is still lent to the driver
	token    uint64

	outstanding uint64    // credit that the peer has used and that was not granted again
	owed        uint64    // part of it whose memory is free
	told        time.Time // of the last grant, or when the first cell came after all were done
	window      *pace.Window
	arrivals    uint64 // cells that came or are coming
	seen        uint64 // arrivals when stuckAt was set
	holding     bool   // the last header was answered Wait
	credit      uint64 // what we may still send

	armed   time.Time // of the last Arm; zero: OnTick came
	stuckAt time.Time // when withheld credit may be what the peer waits for, see grant.go; zero: none is withheld
	lookAt  time.Time // when to look whether the peer waits for us, see life.go; zero: no PUT is open

	header  wire.Header // the frame whose payload is being read
	control []byte      // its memory, of a control frame
	cell    []byte      // its memory, of a CHUNK
	lent    bool
}

// sent is a cell that the driver is writing.
type sent struct {
	stream uint32
	memory []byte // to give back, nil when it is the store's own
}

// New returns a session that waits for the peer's HELLO until now + Handshake.
func New(cfg Config, mem Memory, now time.Time) *Session {
	s := newSession(cfg, mem)
	s.push(Action{Do: Arm, At: now.Add(s.cfg.Handshake)})
	return s
}

func newSession(cfg Config, mem Memory) *Session {
	cfg = cfg.withDefaults()
	return &Session{
		cfg: cfg, mem: mem, told: cfg.Now(),
		window: pace.New(pace.Config{First: cfg.Window, Most: cfg.Window, Link: cfg.Link, Now: cfg.Now}),
		puts:   map[uint32]*put{}, gets: map[uint32]*get{}, calls: map[uint32]*call{},
		ops: map[uint64]*Operation{}, tokens: map[uint64]sent{},
	}
}

// Closed tells that a Close was pushed: no input has an effect any more but OnDone and OnSent, which free memory.
func (s *Session) Closed() bool { return s.closed }

// Greeted tells that the peer has said HELLO.
func (s *Session) Greeted() bool { return s.greeted }

// Idle tells that no operation is open.
func (s *Session) Idle() bool { return len(s.puts)+len(s.gets)+len(s.calls) == 0 }

// Alone tells that nothing is open but a PUT of the stream that waits for its upload, so that the session can go to the process that has
// the upload by Export and Import: who asks has not told OnDone of the one operation.
func (s *Session) Alone(stream uint32) bool {
	p := s.puts[stream]
	return p != nil && p.state == opening && p.moved == nil && s.greeted && !s.closed && !s.draining &&
		len(s.puts) == 1 && len(s.gets)+len(s.calls) == 0 && len(s.ops) == 1 && len(s.tokens) == 0
}

// BadHeader is for a header that wire.ParseHeader refuses: it answers and closes.
func (s *Session) BadHeader(err error) {
	if !s.closed {
		s.refuse(err)
	}
}

// OnTick is for the time of the last Arm, which is now.
func (s *Session) OnTick(now time.Time) {
	switch {
	case s.closed:
	case !s.greeted:
		s.refuse(wire.Failf(wire.CodeDeadline, "no HELLO within %v", s.cfg.Handshake))
	default:
		if now.Before(s.armed) { // by the driver's clock, not quite
			now = s.armed
		}
		s.armed = time.Time{}
		if !s.stuckAt.IsZero() && !s.stuckAt.After(now) {
			s.unstick()
		}
		if !s.lookAt.IsZero() && !s.lookAt.After(now) {
			s.look(now)
		}
		s.rearm()
	}
}

// rearm asks for OnTick at the first of the times at which there is something to do.
func (s *Session) rearm() {
	at := s.lookAt
	if at.IsZero() || !s.stuckAt.IsZero() && s.stuckAt.Before(at) {
		at = s.stuckAt
	}
	if at.IsZero() || s.closed || !s.armed.IsZero() && !at.Before(s.armed) {
		return
	}
	s.armed = at
	s.push(Action{Do: Arm, At: at})
}

// OnHeader takes a header that wire.ParseHeader accepted and answers what to do with its payload. A frame without payload is
// done with it.
func (s *Session) OnHeader(h wire.Header) Payload {
	p := s.onHeader(h)
	s.holding = p.Verdict == Wait
	return p
}

func (s *Session) onHeader(h wire.Header) Payload {
	if s.closed {
		return Payload{Verdict: Refuse}
	}
	if !s.greeted && h.Kind != wire.Hello && h.Kind != wire.Fail {
		return s.refuse(wire.Failf(wire.CodeProtocol, "%v before HELLO", h.Kind))
	}
	if !h.Kind.Known() {
		return Payload{Verdict: Skip}
	}
	s.header = h
	switch h.Kind {
	case wire.Chunk:
		return s.onChunk(h)
	case wire.Hello:
		if s.greeted {
			return s.refuse(wire.Failf(wire.CodeProtocol, "a second HELLO"))
		}
	case wire.Alias, wire.Fill:
		if p, done := s.onRepeat(h); done {
			return p
		}
	case wire.Ping:
		s.send(wire.Header{Kind: wire.Pong, Index: h.Index}, nil)
		return Payload{}
	case wire.Credit:
		return s.onCredit(h)
	case wire.Cancel:
		return s.onCancel(h)
	case wire.Finish:
		if p, done := s.streamOf(h); done {
			return p
		}
		if h.Length == 0 {
			s.onFinish(h, nil)
			return Payload{}
		}
	case wire.Put, wire.Get, wire.Stat, wire.List, wire.Delete, wire.Verify:
		if err := s.checkNew(h); err != nil {
			return s.refuse(err)
		}
	case wire.Pong, wire.Fail:
	default:
		return s.refuse(wire.Failf(wire.CodeProtocol, "%v is not for a server", h.Kind))
	}
	if cap(s.control) < int(h.Length) || cap(s.control) > wire.MaxControl && int(h.Length) <= wire.MaxControl {
		s.control = make([]byte, h.Length, max(int(h.Length), 1<<10))
	}
	s.control = s.control[:h.Length]
	return Payload{Memory: s.control}
}

// checkNew refuses a request whose stream is not new or that is one too many.
func (s *Session) checkNew(h wire.Header) error {
	if h.Stream <= s.last {
		return wire.Failf(wire.CodeProtocol, "%v opens stream %d, but %d was opened before", h.Kind, h.Stream, s.last)
	}
	if len(s.puts)+len(s.gets)+len(s.calls) >= wire.MaxStreams {
		return wire.Failf(wire.CodeLimit, "more than %d operations open on one connection", wire.MaxStreams)
	}
	return nil
}

// streamOf finds the PUT that a CHUNK or FINISH belongs to. done means that p is the answer: the stream has ended.
func (s *Session) streamOf(h wire.Header) (p Payload, done bool) {
	switch {
	case h.Stream > s.last:
		return s.refuse(wire.Failf(wire.CodeProtocol, "%v on stream %d, which was not opened", h.Kind, h.Stream)), true
	case s.puts[h.Stream] != nil:
		return Payload{}, false
	case s.gets[h.Stream] != nil || s.calls[h.Stream] != nil:
		return s.refuse(wire.Failf(wire.CodeProtocol, "%v on stream %d, which is no PUT", h.Kind, h.Stream)), true
	}
	return Payload{Verdict: Skip}, true
}

// OnPayload tells that the payload of the last header is in its memory: crc is the CRC32C of what came, want and status are the trailer's.
func (s *Session) OnPayload(crc, want uint32, status wire.Status) {
	h := s.header
	if s.closed {
		s.dropCell()
		return
	}
	if h.Kind == wire.Chunk {
		s.onCell(h, crc, want, status)
		return
	}
	if status == wire.Aborted {
		return
	}
	if err := wire.CheckPayload(h, crc, want); err != nil {
		s.refuse(err)
		return
	}
	if err := s.onMessage(h, s.control); err != nil {
		f := failureOf(err)
		if h.Kind.Request() && f.Code != wire.CodeProtocol {
			s.fail(h.Stream, f)
			return
		}
		s.refuse(f)
	}
}

func (s *Session) onMessage(h wire.Header, b []byte) error {
	if h.Kind.Request() {
		s.last = h.Stream
		if s.draining {
			return wire.Failf(wire.CodeShutdown, "the server is stopping; ask again later with the same id")
		}
	}
	switch h.Kind {
	case wire.Hello:
		return s.onHello(b)
	case wire.Put:
		return s.onPut(h, b)
	case wire.Finish:
		return s.onFinish(h, b)
	case wire.Alias:
		s.onAlias(h, b)
	case wire.Get:
		return s.onGet(h, b)
	case wire.Stat, wire.Delete, wire.Verify, wire.List:
		return s.onCall(h, b)
	case wire.Fail:
		var f wire.Failure
		if err := wire.Decode(b, &f); err != nil {
			return err
		}
		if h.Stream == 0 {
			s.close(fmt.Errorf("the peer says: %w", &f))
		}
	}
	return nil
}

func (s *Session) onHello(b []byte) error {
	var m wire.HelloMessage
	if err := wire.Decode(b, &m); err != nil {
		return err
	}
	if err := m.Check(); err != nil {
		return err
	}
	s.peer, s.greeted, s.credit = m, true, m.Credit
	hello := wire.NewHello(s.cfg.Software, s.cfg.Window)
	hello.Features = []string{wire.FeatureAlias, wire.FeatureFill, wire.FeatureResend, wire.FeatureJoin}
	s.send(wire.Header{Kind: wire.Hello, Flags: wire.Critical}, hello)
	return nil
}

// OnDone takes the result of the submitted operation id.
func (s *Session) OnDone(id uint64, r Result) {
	pending, ok := s.ops[id]
	if !ok {
		panic(fmt.Sprintf("session: result of operation %d, which is not pending", id))
	}
	op := *pending
	if !(op.Job == Verify && r.More) {
		delete(s.ops, id)
		*pending = Operation{}
		s.spare = pending
	}
	switch op.Job {
	case Begin, Write, Repeat, Commit, Release, Discard, Join, Leave, Gather:
		s.onPutDone(op, r)
	case Open, ReadCell, Shut:
		s.onGetDone(op, r)
	default:
		s.onCallDone(op, r)
	}
	s.drained()
}

// OnSent tells that the segments of the Send with this token were written and may be used again.
func (s *Session) OnSent(token uint64) {
	t := s.tokens[token]
	delete(s.tokens, token)
	if t.memory != nil {
		s.mem.Give(t.memory)
	}
	if g := s.gets[t.stream]; g != nil {
		g.sending--
		s.pump(t.stream, g)
	}
	s.drained()
}

func (s *Session) submit(op Operation) {
	s.nextOp++
	op.ID = s.nextOp
	p := s.spare
	if p == nil {
		p = new(Operation)
	}
	s.spare = nil
	*p = op
	s.ops[op.ID] = p
	s.push(Action{Do: Submit, Op: op, Stream: op.Stream})
}

func (s *Session) onCredit(h wire.Header) Payload {
	if s.credit+h.Index > wire.MaxCredit {
		return s.refuse(wire.Failf(wire.CodeProtocol, "credit of %d bytes and %d more", s.credit, h.Index))
	}
	s.credit += h.Index
	for stream, g := range s.gets {
		s.pump(stream, g)
	}
	return Payload{}
}

func (s *Session) onCancel(h wire.Header) Payload {
	switch {
	case h.Stream > s.last:
		return s.refuse(wire.Failf(wire.CodeProtocol, "CANCEL of stream %d, which was not opened", h.Stream))
	case s.puts[h.Stream] != nil:
		s.cancelPut(h.Stream, h.Raw == 1)
	case s.gets[h.Stream] != nil:
		s.cancelGet(h.Stream)
	case s.calls[h.Stream] != nil:
		s.cancelCall(h.Stream)
	}
	s.drained()
	return Payload{}
}

// Drain ends the session: at once when force is set or nothing is open, otherwise when what is open has ended. New requests
// are refused with a retryable error; the peer is told so by GOAWAY.
func (s *Session) Drain(force bool) {
	if s.greeted && !s.draining && !s.closed {
		s.send(wire.Header{Kind: wire.GoAway}, nil)
	}
	s.draining = true
	if s.closed {
		return
	}
	if force && !s.Idle() {
		s.fail(0, wire.Failf(wire.CodeShutdown, "the server is stopping; ask again later with the same id"))
		return
	}
	s.drained()
}

// drained closes when the last operation of a draining session has ended. Behind the last PUT nobody knows how large the next cells are.
func (s *Session) drained() {
	if len(s.puts) == 0 && s.owed > 0 {
		s.give()
	}
	if s.draining && s.Idle() {
		s.close(nil)
	}
}
