package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass"
	"ndferry/internal/handover"
	"ndferry/store/dir"
	"ndferry/wire"
)

// attended is a worker in this process, and its master's end of the channel in the hands of the test.
type attended struct {
	t      *testing.T
	srv    *Server
	master *handover.Channel
	words  *handover.Words
	seq    uint64
}

// attend starts workers 1 to n of one master over a directory, until the test ends.
func attend(t *testing.T, n int, cfg Config) (list []*attended) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	lock, err := dir.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	for i := range n {
		list = append(list, attendAs(t, OwnerName(os.Getpid(), i+1), path, cfg))
	}
	return list
}

func attendAs(t *testing.T, owner, path string, cfg Config) *attended {
	t.Helper()
	const slots = 64
	channel := func(c *fdpass.Conn) *handover.Channel {
		ch, err := handover.NewChannel(c)
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	near, far, err := fdpass.Pair(fdpass.Seqpacket)
	if err != nil {
		t.Fatal(err)
	}
	a := &attended{t: t, master: channel(near)}
	if a.words, err = handover.MakeWords(slots); err != nil {
		t.Fatal(err)
	}
	table, err := unix.FcntlInt(a.words.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	joined := make(chan *handover.Worker, 1)
	go func() {
		ch, err := handover.Join(t.Context(), channel(far), os.NewFile(uintptr(table), "words"), handover.WorkerConfig{})
		if err != nil {
			t.Error(err)
		}
		joined <- ch
	}()
	if _, err := a.master.Greet(t.Context(), &handover.Hello{Min: 1, Max: 1, Generation: 1, Index: 1, Slots: slots, Credit: 16}); err != nil {
		t.Fatal(err)
	}
	if err := a.master.Send(t.Context(), handover.KindStart, handover.Raw(owner)); err != nil {
		t.Fatal(err)
	}
	ch := <-joined
	st, err := dir.Open(path, dir.Config{Shared: true, Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Owner, cfg.Log = owner, slog.New(slog.NewTextHandler(testLog{t}, nil))
	a.srv = New(st, cfg)
	ended := make(chan error, 1)
	go func() { ended <- a.srv.Attend(context.Background(), ch, 100*time.Millisecond) }()
	t.Cleanup(func() {
		a.master.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if touched, closed := a.words.Counts(); touched != closed {
			t.Errorf("%s: %d connections were touched, %d closed", owner, touched, closed)
		}
		for _, c := range []io.Closer{ch, a.words, st} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return a
}

// offer offers a connection, of which the test lets go.
func (a *attended) offer(fd int, m handover.Meta) {
	a.t.Helper()
	a.seq++
	var err error
	if m.Cookie, err = handover.Cookie(fd); err != nil {
		a.t.Fatal(err)
	}
	o := handover.Offer{Sequence: a.seq, Slot: uint32(a.seq) % uint32(a.words.Slots()), Meta: m}
	a.words.Offer(o.Slot, o.Sequence)
	if err := a.master.Send(a.t.Context(), handover.KindOffer, handover.Raw(handover.AppendOffer(nil, &o)), fdpass.FD(fd)); err != nil {
		a.t.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		a.t.Error(err)
	}
}

// dial connects a client to the worker, as a master does.
func (a *attended) dial() *peer {
	a.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		a.t.Fatal(err)
	}
	theirs, err := ln.Accept()
	if err != nil {
		a.t.Fatal(err)
	}
	fd, ok := descriptor(theirs)
	if !ok {
		a.t.Fatal("no descriptor")
	}
	a.offer(fd, handover.Meta{Client: nc.LocalAddr().String(), Local: ln.Addr().String()})
	return newPeer(a.t, nc)
}

// returned waits for a connection that the worker gives back; the descriptor is the caller's.
func (a *attended) returned() (fd int, r handover.Return) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	defer cancel()
	for {
		f, files, err := a.master.Recv(ctx)
		if err != nil {
			a.t.Fatal(err)
		}
		if f.Kind != handover.KindReturn {
			files.Close()
			continue
		}
		if err := r.ParseBody(f.Body); err != nil {
			a.t.Fatal(err)
		}
		r.Preread, r.State = slices.Clone(r.Preread), slices.Clone(r.State)
		if fd, err = files.Take(0); err != nil {
			a.t.Fatal(err)
		}
		return fd, r
	}
}

// drivenBy counts the connections that came with a session, by what drives them.
func (a *attended) drivenBy() (loop, goroutine int) {
	a.srv.mu.Lock()
	defer a.srv.mu.Unlock()
	for c := range a.srv.conns {
		switch c := c.(type) {
		case *loopConn:
			if c.meta != nil && c.meta.Hops > 0 {
				loop++
			}
		case *conn:
			if c.meta != nil && c.meta.Hops > 0 {
				goroutine++
			}
		}
	}
	return loop, goroutine
}

// until takes frames up to one of the kind.
func (p *peer) until(kind wire.Kind) {
	p.t.Helper()
	for {
		f := p.next()
		if f.Kind == kind {
			return
		}
		if f.Kind == 0 || f.Kind == wire.Fail {
			p.t.Fatalf("got %v %s, want %v", f.Kind, f.Payload, kind)
		}
	}
}

// moving is a PUT whose connection worker 2 has given back, because worker 1 has its transfer.
type moving struct {
	u             *upload
	older, client *peer  // the one that began the transfer, at worker 1, and the one that is to go on
	rest          []byte // what client has not said yet
	fd            int
	meta          handover.Meta
}

// move makes one; its client has said so many bytes behind its PUT.
func move(t *testing.T, workers []*attended, id byte, ahead int) *moving {
	t.Helper()
	m := &moving{u: newUpload(t, fmt.Sprintf("a%d", id), id)}
	m.u.msg.Resume = true
	m.older = workers[0].dial()
	m.older.send(m.u.put(1))
	m.older.until(wire.Accept)
	m.client = workers[1].dial()
	m.rest = slices.Concat(m.u.chunk(3, 1), m.u.chunk(3, 0), m.u.finish(3))
	m.client.send(append(m.u.put(3), m.rest[:ahead]...))
	fd, r := workers[1].returned()
	if r.To != 1 || r.Hops != 1 || len(r.State) == 0 || !bytes.Equal(r.Preread, m.rest[:len(r.Preread)]) {
		t.Fatalf("returned to %d after %d, %d bytes of state, read %q of %q", r.To, r.Hops, len(r.State), r.Preread, m.rest)
	}
	m.fd, m.meta, m.rest = fd, r.Meta, m.rest[ahead:]
	return m
}

// TestMoved moves a PUT to the worker that has its transfer, with every number of bytes said behind it: a loop
// goes on with it.
func TestMoved(t *testing.T) {
	audit(t)
	driver := LoopDriver
	workers := attend(t, 2, Config{Driver: driver, Loops: 2})
	u := newUpload(t, "a", 1)
	length, longest := len(u.chunk(3, 1))+len(u.chunk(3, 0))+len(u.finish(3)), 0
	for ahead := range length + 1 {
		m := move(t, workers, byte(ahead+1), ahead)
		longest = max(longest, len(m.meta.Preread))
		workers[0].offer(m.fd, m.meta)
		m.client.until(wire.Accept)
		if loop, goroutine := workers[0].drivenBy(); loop+goroutine != 1 || (loop == 1) != (driver == LoopDriver) {
			t.Fatalf("%d ahead: of the connections that were moved %d are on a loop, %d have goroutines", ahead, loop, goroutine)
		}
		m.client.send(m.rest)
		m.client.until(wire.Receipt)
		m.client.nc.Close()
		settled(t, workers[0].srv, 0)
		m.check(workers[1])
		settled(t, workers[1].srv, 0)
	}
	if longest < length/2 {
		t.Errorf("never more than %d bytes of %d went along", longest, length)
	}
}

// check gets the array.
func (m *moving) check(a *attended) {
	a.t.Helper()
	p := a.dial()
	defer p.nc.Close()
	p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Get, Flags: wire.Critical, Stream: 1}, wire.Encode(wire.GetMessage{Name: m.u.msg.Name})))
	for range 2 {
		f := p.next()
		for f.Kind == wire.Meta {
			f = p.next()
		}
		if f.Kind != wire.Chunk || f.Index > 1 || !bytes.Equal(f.Payload, m.u.cells[f.Index][:]) {
			a.t.Errorf("got %v %d %x", f.Kind, f.Index, f.Payload)
		}
	}
}

// TestMovedAndGone moves connections whose session, client or server ends before it goes on. Each is ended, its descriptor closed, and counted.
func TestMovedAndGone(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		workers := attend(t, 2, Config{Driver: driver, Loops: 2})
		for i, state := range []string{"{", `{"version":99}`, `{"version":1,"puts":[{"message":"AA=="}]}`} {
			m := move(t, workers, byte(i+1), 0)
			m.meta.State = []byte(state)
			workers[0].offer(m.fd, m.meta)
			if n, err := io.Copy(io.Discard, m.client.nc); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("state %s: %d bytes instead of the end: %v", state, n, err)
			}
			m.older.nc.Close()
			settled(t, workers[0].srv, 0)
		}

		m := move(t, workers, 10, 5)
		m.client.nc.Close()
		workers[0].offer(m.fd, m.meta)
		m.older.nc.Close()
		settled(t, workers[0].srv, 0)

		m = move(t, workers, 11, 20)
		workers[0].offer(m.fd, m.meta)
		m.client.until(wire.Accept)
		if err := workers[0].master.Send(t.Context(), handover.KindDrain, &handover.Drain{Time: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		m.client.wantGoAway()
		m.client.wantError(wire.CodeShutdown)
		m.client.wantEnd()
	})
}

// TestMovedBesideDrain ends a connection with its session before the loop has taken it.
func TestMovedBesideDrain(t *testing.T) {
	audit(t)
	workers := attend(t, 2, Config{Loops: 2})
	m := move(t, workers, 1, 5)
	s := workers[0].srv
	place := s.admit.enter("")
	place.shared = true
	s.mu.Lock()
	lc := newLoopConn(s.loops.place(), place)
	lc.meta, lc.state = &m.meta, m.meta.State
	s.conns[lc] = struct{}{}
	s.done.Add(1)
	s.mu.Unlock()
	lc.drain(false)
	lc.drain(true)
	if err := s.loops.all[0].loop.Post(func() { lc.d.adoptPassed(m.fd, m.meta.Client, m.meta.Preread, lc) }); err != nil {
		t.Fatal(err)
	}
	m.client.wantGoAway()
	m.client.wantError(wire.CodeShutdown)
	if n, err := io.Copy(io.Discard, m.client.nc); err != nil {
		t.Errorf("%d bytes more, then %v instead of the end", n, err)
	}
	m.older.nc.Close()
	settled(t, s, 0)
}
