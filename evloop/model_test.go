//go:build linux

package evloop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var modelSeed = flag.Uint64("model.seed", 0, "seed of the model test; 0 for a fresh one, which is printed")

// TestModel runs random schedules against a byte-exact reference: what the
// handlers consumed must be what the peer sent, what the peer received must
// be what the handlers wrote, in order, whatever the kernel answers.
func TestModel(t *testing.T) {
	audit(t)
	runModel(t, 3000, false)
}

func runModel(t *testing.T, schedules int, everyTriple bool) {
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d schedules from -model.seed=%d", schedules, seed)
	hits := map[triple]int{}
	for i := range schedules {
		one := seed + uint64(i)
		if err := runSchedule(one, hits); err != nil {
			t.Fatalf("schedule -model.seed=%d: %v", one, err)
		}
	}
	if everyTriple {
		checkTriples(t, hits)
	}
}

// checkTriples fails if an error that can happen in a state never did.
func checkTriples(t *testing.T, hits map[triple]int) {
	flows := []connState{stOpen, stFlushing, stLingering}
	want := map[string]struct {
		errnos []unix.Errno
		states []connState
	}{
		"read":      {append(mildIO, fatalRead...), flows},
		"recv":      {append(mildIO, fatalRead...), flows},
		"write":     {append(mildIO, fatalWrite...), []connState{stOpen, stFlushing}},
		"sendfile":  {append(mildIO, fatalWrite...), []connState{stOpen, stFlushing}},
		"accept":    {mildAccept, []connState{stClosed}}, // a listener has no state
		"shutdown":  {[]unix.Errno{unix.ENOTCONN}, []connState{stFlushing}},
		"sockerror": {[]unix.Errno{unix.ECONNRESET}, []connState{stDialing, stOpen}},
	}
	seen := 0
	for call, w := range want {
		for _, errno := range append(w.errnos, 0) {
			for _, state := range w.states {
				k := triple{call, errno, state}
				if hits[k] == 0 {
					t.Errorf("never happened: %s returning %v (%d) in state %d", call, errno, errno, state)
				}
				seen++
			}
		}
	}
	t.Logf("%d triples of call, errno and state", seen)
}

// actor is one connection of a schedule: the handler's side and the peer's.
type actor struct {
	*sock
	mode      int
	c         *Conn
	consumed  []byte // what the handler was given
	written   []byte // what it wrote, successfully
	owed      int    // done callbacks to come
	closes    int
	err       error
	pauses    int
	closeAt   int // the handler closes after so many consumed bytes; -1 never
	aborted   bool
	taken     []int
	reset     bool
	dialed    bool
	sentFiles map[int][]int
}

const (
	modeEcho = iota
	modeOwned
	modeFrames
	modeLines
	modeFiles
	modes
)

type schedule struct {
	*world
	l      *Loop
	actors []*actor
	file   int
}

func runSchedule(seed uint64, hits map[triple]int) (err error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(rng, hits)
	s := &schedule{world: w}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	cfg := Config{LowWater: 16, HighWater: 64 << rng.IntN(8), Log: quietLog(), Idle: 100 * time.Hour, Linger: 50 * time.Second, FlushTimeout: 10 * time.Hour}
	s.l = newLoop(cfg, fakePoller{w}, w, func() int64 { return w.now })
	s.l.rbuf = make([]byte, []int{1, 7, 64, 1000, 65536}[rng.IntN(5)])
	s.l.lim = turnLimits{piece: 1 + rng.IntN(200), sink: 1 + rng.IntN(400), write: 1 + rng.IntN(300), direct: 1 + rng.IntN(60)}
	if rng.IntN(20) == 0 {
		s.l.lim = turnLimits{sinkPiece, sinkBudget, writeBudget, directWrite}
	}
	w.stateF = func(fd int) connState {
		if c := s.l.at(int32(fd)); c != nil {
			return c.state
		}
		return stClosed
	}
	s.file = w.alloc("file")
	w.faults, w.fatal = true, rng.IntN(2) == 0
	s.start()
	for range 20 + rng.IntN(120) {
		s.step()
		if err := s.l.turn(); err != nil {
			return err
		}
		w.now += int64(rng.IntN(int(time.Millisecond)))
	}
	return s.finish()
}

// start makes a listener whose queue holds all connections but one, which is
// dialed.
func (s *schedule) start() {
	ln := &Listener{loop: s.l, fd: s.alloc("listener"), reserve: s.Reserve()}
	ln.place = func(fd int, peer unix.Sockaddr) {
		for _, a := range s.actors {
			if a.sock == s.byFD[fd] {
				a.c, _ = s.l.adopt(fd, peer, nil, s.handler(a))
			}
		}
	}
	s.l.listeners[int32(ln.fd)] = ln
	if err := ln.register(Read); err != nil {
		panic(err)
	}
	for i := range 1 + s.rng.IntN(3) {
		a := s.newActor(i)
		if i == 2 {
			s.dialActor(a)
			continue
		}
		s.actors = append(s.actors, a)
		s.pool = append(s.pool, a.sock)
	}
}

func (s *schedule) dialActor(a *actor) {
	a.dialed = true
	fd := s.alloc(a.sock)
	s.byFD[fd] = a.sock
	s.l.quota.claim()
	c := s.l.newConn(fd, &unix.SockaddrInet4{}, s.handler(a))
	c.kind = kindTCP
	if a.mode == modeFiles {
		c.kind = kindUnix
	}
	a.c = c
	c.register(Write | Watch)
	s.actors = append([]*actor{}, append(s.actors, a)...)
}

func (s *schedule) newActor(i int) *actor {
	a := &actor{sock: &sock{room: s.rng.IntN(500), files: map[int][]int{}}, mode: s.rng.IntN(modes), closeAt: -1, sentFiles: map[int][]int{}}
	n := s.rng.IntN(3000)
	if s.rng.IntN(200) == 0 {
		n = 600 << 10
		s.l.rbuf = make([]byte, readBuffer)
		s.l.lim = turnLimits{sinkPiece, sinkBudget, writeBudget, directWrite}
	}
	a.script = random(uint64(s.rng.IntN(1<<20)), n)
	switch a.mode {
	case modeFrames:
		a.script = frameScript(s.rng, n)
	case modeLines:
		for i := range a.script {
			if a.script[i] < 12 {
				a.script[i] = '\n'
			}
		}
	case modeFiles:
		a.sock.passed = map[int][]int{}
		for range s.rng.IntN(6) {
			if at := s.rng.IntN(len(a.script) + 1); at < len(a.script) && a.sock.passed[at] == nil {
				a.sock.passed[at] = []int{s.alloc("passed"), s.alloc("passed")}
			}
		}
	}
	if s.rng.IntN(5) == 0 {
		a.closeAt = s.rng.IntN(len(a.script) + 1)
	}
	return a
}

func frameScript(rng *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		size := rng.IntN(300)
		if n > 100<<10 {
			size = 300 << 10
		}
		b = binary.BigEndian.AppendUint32(b, uint32(size))
		b = append(b, random(uint64(rng.IntN(1<<20)), size)...)
	}
	return b
}

// got is called by every handler with bytes that it consumed.
func (a *actor) consumedBytes(c *Conn, b []byte) {
	a.consumed = append(a.consumed, b...)
	if a.closeAt >= 0 && len(a.consumed) >= a.closeAt {
		c.Close()
	}
}

func (s *schedule) handler(a *actor) Handler {
	closed := func(_ *Conn, err error) { a.closes++; a.err = err }
	switch a.mode {
	case modeLines:
		return &Lines{Ended: closed, Line: func(c *Conn, line []byte) error {
			if i := bytes.IndexByte(line, '\n'); i != len(line)-1 {
				panic("not one line")
			}
			s.reply(a, c, line)
			a.consumedBytes(c, line)
			return nil
		}}
	case modeFrames:
		into := s.rng.IntN(200)
		return &Frames{HeaderSize: 4, Ended: closed,
			Size: func(h []byte) (int, error) { return int(binary.BigEndian.Uint32(h)), nil },
			Into: func(_ *Conn, _ []byte, n int) []byte {
				if n > into {
					return make([]byte, n)
				}
				return nil
			},
			Frame: func(c *Conn, h, p []byte) error {
				s.reply(a, c, append(append([]byte(nil), h...), p...))
				a.consumedBytes(c, h)
				a.consumedBytes(c, p)
				return nil
			},
		}
	}
	return &funcs{
		open: func(c *Conn) {
			if a.mode == modeFiles {
				c.AllowFiles(3)
			}
		},
		data: func(c *Conn, b []byte) int {
			n := 1 + s.rng.IntN(len(b))
			if c.paused() || s.rng.IntN(4) != 0 || len(b) < 4 {
				n = len(b)
			}
			s.reply(a, c, b[:n])
			a.consumedBytes(c, b[:n])
			if n < len(b) { // the rest is offered again only after Pause and Resume
				c.Pause()
				a.pauses++
			}
			for _, f := range c.TakeFiles(s.rng.IntN(3)) {
				a.taken = append(a.taken, f.FD)
			}
			return n
		},
		closed: closed,
	}
}

// reply echoes b in one of the ways of writing.
func (s *schedule) reply(a *actor, c *Conn, b []byte) {
	done := func(err error) {
		if a.owed--; a.owed < 0 {
			panic("done called twice")
		}
	}
	var err error
	var extra []byte
	switch way := s.rng.IntN(5); {
	case a.mode == modeOwned && way < 3:
		a.owed++
		if err = c.WriteOwned(append([]byte(nil), b...), done); err != nil {
			a.owed--
		}
	case way == 3:
		a.owed++
		m := Message{Bufs: [][]byte{append([]byte(nil), b...)}, Done: done}
		if s.rng.IntN(2) == 0 && len(b) > 1 {
			k := s.rng.IntN(len(b))
			m.Bufs = [][]byte{append([]byte(nil), b[:k]...), append([]byte(nil), b[k:]...)}
		}
		if s.rng.IntN(3) == 0 {
			m.File, m.FileOff, m.FileLen = s.file, int64(s.rng.IntN(100)), 1+int64(s.rng.IntN(100))
			extra = pattern(m.FileOff, int(m.FileLen))
		}
		if a.mode == modeFiles && s.rng.IntN(3) == 0 {
			m.FDs = []int{s.file}
		}
		if err = c.Send(m); err != nil {
			a.owed--
		} else if m.FDs != nil {
			a.sentFiles[len(a.written)] = m.FDs
		}
	default:
		_, err = c.Write(b)
	}
	if err == nil {
		a.written = append(append(a.written, b...), extra...)
	} else if !errors.Is(err, ErrClosed) {
		panic(err)
	}
}

// step lets the peers and the program do something at random.
func (s *schedule) step() {
	for _, a := range s.actors {
		switch s.rng.IntN(8) {
		case 0, 1, 2:
			a.sent = min(len(a.script), a.sent+s.rng.IntN(400))
		case 3, 4:
			a.room += s.rng.IntN(600)
		case 5:
			if a.sent == len(a.script) && s.rng.IntN(3) == 0 {
				a.eof = true
			}
		case 6:
			s.meddle(a)
		case 7:
			if s.fatal && s.rng.IntN(60) == 0 {
				a.sock.reset, a.reset = unix.ECONNRESET, true
			}
		}
	}
}

// meddle calls the methods that change a connection's course.
func (s *schedule) meddle(a *actor) {
	c := a.c
	if c == nil || c.state != stOpen {
		return
	}
	switch s.rng.IntN(4) {
	case 0:
		c.Pause()
		a.pauses++
	case 1:
		if a.pauses > 0 {
			a.pauses--
			c.Resume()
		}
	case 2:
		if c.sink == nil && a.pauses == 0 {
			s.move(a)
		}
	case 3:
		if s.rng.IntN(20) == 0 {
			a.aborted = true
			c.Abort(nil)
		}
	}
}

// move detaches a connection and adopts it again.
func (s *schedule) move(a *actor) {
	c := a.c
	d, err := c.Detach()
	if err != nil {
		if !errors.Is(err, ErrBusy) {
			panic(err)
		}
		return
	}
	for _, f := range d.Files {
		a.taken = append(a.taken, f.FD)
	}
	h := c.Handler()
	var sa unix.Sockaddr = c.peer
	s.l.quota.claim()
	n, err := s.l.adopt(d.FD, sa, d.Unread, h)
	if err != nil {
		panic(err)
	}
	n.kind = c.kind
	a.c = n
	if len(d.Unsent) > 0 {
		if _, err := n.Write(d.Unsent); err != nil {
			panic(err)
		}
	}
}

// finish lets everything end without further faults and checks it.
func (s *schedule) finish() error {
	s.faults, s.fatal = false, false
	for round := 0; round < 20000; round++ {
		busy := false
		for _, a := range s.actors {
			a.sent, a.room, a.eof = len(a.script), a.room+1<<20, true
			for a.pauses > 0 && a.c != nil && a.c.state == stOpen {
				a.pauses--
				a.c.Resume()
			}
			busy = busy || a.closes == 0 && (a.c != nil || !a.ended)
		}
		if !busy && round > 3 {
			break
		}
		s.now += int64(200 * time.Millisecond)
		if err := s.l.turn(); err != nil {
			return err
		}
	}
	s.l.closeListeners()
	for i, a := range s.actors {
		if err := a.check(); err != nil {
			return fmt.Errorf("connection %d, mode %d: %w", i, a.mode, err)
		}
		for _, fd := range a.taken {
			delete(s.open, fd)
		}
		for _, fds := range a.sock.passed { // the loop never read them
			for _, fd := range fds {
				delete(s.open, fd)
			}
		}
	}
	delete(s.open, s.file)
	if len(s.open) > 0 || len(s.sets) > 0 || s.l.live != 0 || s.l.quota.used.Load() != 0 {
		return fmt.Errorf("left open %v, registered %v, %d connections, quota %d", s.open, s.sets, s.l.live, s.l.quota.used.Load())
	}
	return nil
}

func (a *actor) check() error {
	broken := a.faulted || a.reset || a.aborted
	switch {
	case a.c == nil && a.ended: // refused for lack of descriptors
		return nil
	case a.closes != 1:
		return fmt.Errorf("Close called %d times; adopted %v", a.closes, a.c != nil)
	case a.owed != 0:
		return fmt.Errorf("%d done callbacks missing", a.owed)
	case !bytes.HasPrefix(a.script, a.consumed):
		return fmt.Errorf("consumed bytes differ from the script after %d", len(a.consumed))
	case !bytes.HasPrefix(a.written, a.got):
		return fmt.Errorf("the peer got other bytes than were written")
	case a.err == nil && !bytes.Equal(a.got, a.written):
		return fmt.Errorf("closed without error, the peer has %d of %d bytes", len(a.got), len(a.written))
	case !broken && a.err != nil:
		return fmt.Errorf("failed without a fault: %w", a.err)
	case a.err == nil && a.closeAt < 0 && a.mode != modeLines && len(a.consumed) != len(a.script) && !broken:
		return fmt.Errorf("closed without error after %d of %d bytes", len(a.consumed), len(a.script))
	}
	for at, fds := range a.files {
		if a.sentFiles[at] == nil || len(fds) != len(a.sentFiles[at]) {
			return fmt.Errorf("descriptors arrived at byte %d, were sent at %v", at, a.sentFiles)
		}
	}
	if a.err == nil && len(a.files) != len(a.sentFiles) {
		return fmt.Errorf("%d of %d groups of descriptors arrived", len(a.files), len(a.sentFiles))
	}
	return nil
}
