//go:build linux

package handover

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/evloop"
	"ndferry/fdpass"
	"ndferry/fdpass/fdtest"
)

// ends is a master's end in the hands of a test, and a worker that runs in this process.
type ends struct {
	t      *testing.T
	master *Channel
	words  *Words
	worker *Worker
	seq    uint64
	ended  chan error
	idle   sync.WaitGroup // nobody receives
}

// byLoop makes workers receive on a loop instead of by Run.
var byLoop bool

// bothWays runs a test with workers that call Run and with workers that have a loop.
func bothWays(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	for _, byLoop = range []bool{false, true} {
		t.Run(map[bool]string{false: "by Run", true: "on a loop"}[byLoop], test)
	}
	byLoop = false
}

// pair makes both ends, which have agreed; the worker is at START.
func pair(t *testing.T, cfg WorkerConfig) *ends {
	t.Helper()
	return pairWith(t, cfg, 0)
}

// pairWith is pair with a master that has features.
func pairWith(t *testing.T, cfg WorkerConfig, features uint64) *ends {
	t.Helper()
	fdtest.Audit(t)
	a, b, err := fdpass.Pair(fdpass.Seqpacket)
	if err != nil {
		t.Fatal(err)
	}
	e := &ends{t: t, master: newChannel(t, a), words: makeWords(t, 8), ended: make(chan error, 1)}
	t.Cleanup(func() { e.master.Close() })
	joined := make(chan error, 1)
	go func() {
		var err error
		e.worker, err = Join(t.Context(), newChannel(t, b), dupFile(t, e.words.File()), cfg)
		joined <- err
	}()
	w, err := e.master.Greet(t.Context(), &Hello{Min: 1, Max: 9, Generation: 5, Index: 2, Slots: 8, Credit: 4, Features: features})
	if err != nil {
		t.Fatal(err)
	}
	if w.Version != 1 || int(w.PID) != os.Getpid() || w.Files == 0 {
		t.Errorf("%+v", w)
	}
	if err := e.master.Send(t.Context(), KindStart, Raw("what to serve")); err != nil {
		t.Fatal(err)
	}
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.master.Close()
		e.idle.Wait() // Run may be using the table
		e.worker.Close()
	})
	return e
}

func newChannel(t *testing.T, c *fdpass.Conn) *Channel {
	t.Helper()
	ch, err := NewChannel(c)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func dupFile(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// client makes a connection and returns both of its ends.
func client(t *testing.T) (theirs net.Conn, ours *net.TCPConn, cookie uint64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	theirs, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close(); c.Close() })
	ours = c.(*net.TCPConn)
	raw, _ := ours.SyscallConn()
	raw.Control(func(fd uintptr) { cookie, err = Cookie(int(fd)) })
	if err != nil {
		t.Fatal(err)
	}
	return theirs, ours, cookie
}

// offer sends one offer with the descriptors that are given.
func (e *ends) offer(m Meta, files ...syscall.Conn) Offer {
	e.t.Helper()
	e.seq++
	o := Offer{Sequence: e.seq, Slot: uint32(e.seq % 8), Meta: m}
	e.words.Offer(o.Slot, o.Sequence)
	if err := e.master.Send(e.t.Context(), KindOffer, Raw(AppendOffer(nil, &o)), files...); err != nil {
		e.t.Fatal(err)
	}
	return o
}

// run starts to receive.
func (e *ends) run(handle Handler) {
	if byLoop {
		e.runLoop(handle)
		return
	}
	e.idle.Go(func() { e.ended <- e.worker.Run(e.t.Context(), handle, func(time.Duration) {}) })
}

// runLoop receives on a loop.
func (e *ends) runLoop(handle Handler) {
	e.t.Helper()
	l, err := evloop.New(evloop.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		e.t.Fatal(err)
	}
	fd, err := e.worker.Attach(func(d time.Duration, f func()) { l.After(d, f) })
	if err != nil {
		e.t.Fatal(err)
	}
	var w *evloop.Watcher
	w, err = l.Watch(fd, func() {
		if ended, err := e.worker.Turn(handle, func(time.Duration) {}); ended {
			w.Stop()
			l.Stop()
			e.ended <- err
		}
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.idle.Go(func() {
		if err := l.Run(e.t.Context()); err != nil {
			e.t.Error(err)
		}
	})
}

// until receives frames until one of the kind comes.
func (e *ends) until(kind Kind) Frame {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	for {
		f, files, err := e.master.Recv(ctx)
		if err != nil {
			e.t.Fatalf("waiting for %v: %v", kind, err)
		}
		files.Close()
		if f.Kind == kind {
			return f
		}
	}
}

func (e *ends) report() (r Report) {
	e.t.Helper()
	if err := r.ParseBody(e.until(KindReport).Body); err != nil {
		e.t.Fatal(err)
	}
	return r
}

func (e *ends) refusal() (r Refuse) {
	e.t.Helper()
	if err := r.ParseBody(e.until(KindRefuse).Body); err != nil {
		e.t.Fatal(err)
	}
	return r
}

// TestWorker_serves passes connections and checks who owns them at each moment.
func TestWorker_serves(t *testing.T) { bothWays(t, workerServes) }

func workerServes(t *testing.T) {
	var steps []Step
	e := pair(t, WorkerConfig{Step: func(s Step) error { steps = append(steps, s); return nil }})
	if got := string(e.worker.Start()); got != "what to serve" || e.worker.Index() != 2 || e.worker.Generation() != 5 {
		t.Errorf("START %q, index %d, generation %d", got, e.worker.Index(), e.worker.Generation())
	}
	e.run(func(c *Conn) error {
		if s := e.words.State(c.Slot, c.Sequence); s != Touched {
			t.Errorf("offer %d is served in state %v", c.Sequence, s)
		}
		s, err := c.Socket()
		if err != nil {
			return err
		}
		if s.RemoteAddr().String() != c.Client || string(c.Preread) != "pre" {
			t.Errorf("the socket is of %v, offered as %v, with %q", s.RemoteAddr(), c.Client, c.Preread)
		}
		io.WriteString(s, "hello")
		e.worker.Words().Closed()
		return s.Close()
	})
	for n := uint64(1); n <= 20; n++ {
		theirs, ours, cookie := client(t)
		o := e.offer(Meta{Cookie: cookie, Accepted: time.Now().UnixNano(), Client: theirs.LocalAddr().String(), Preread: []byte("pre")}, ours)
		// The worker's close ends the connection although the master has a copy of the descriptor.
		if b, err := io.ReadAll(theirs); err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
		if r := e.report(); r.Answered != n || r.Credit != 4 {
			t.Errorf("after %d offers: %+v", n, r)
		}
		if s := e.words.State(o.Slot, o.Sequence); s != Touched {
			t.Errorf("offer %d ended in state %v", n, s)
		}
	}
	if touched, closed := e.words.Counts(); touched != 20 || closed != 20 || e.words.Live() != 0 {
		t.Errorf("%d touched, %d closed, %d live", touched, closed, e.words.Live())
	}
	e.master.Close()
	if err := <-e.ended; err != nil {
		t.Errorf("after the master's end: %v", err)
	}
	if len(steps) != 60 || steps[0] != StepReceived || steps[1] != StepTaken || steps[2] != StepServed {
		t.Errorf("steps %v", steps)
	}
}

// TestWorker_refuses gives a worker what it must not touch.
func TestWorker_refuses(t *testing.T) { bothWays(t, workerRefuses) }

func workerRefuses(t *testing.T) {
	e := pair(t, WorkerConfig{})
	gate := make(chan struct{})
	e.run(func(c *Conn) error {
		if c.Listener == 1 {
			<-gate
			return nil
		}
		if c.Listener == 2 {
			return errors.New("no memory")
		}
		t.Errorf("offer %d was served", c.Sequence)
		return nil
	})
	theirs, ours, cookie := client(t)
	o := e.offer(Meta{Cookie: cookie + 1}, ours)
	if r := e.refusal(); r.Sequence != o.Sequence || r.Reason != ReasonMetadata || e.words.State(o.Slot, o.Sequence) != Refused {
		t.Errorf("another cookie: %+v, %v", r, e.words.State(o.Slot, o.Sequence))
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	o = e.offer(Meta{Cookie: cookie}, r)
	if r := e.refusal(); r.Reason != ReasonMetadata || e.words.State(o.Slot, o.Sequence) != Refused {
		t.Errorf("a pipe: %+v", r)
	}
	o = e.offer(Meta{Cookie: cookie, Listener: 2}, ours)
	if r := e.refusal(); r.Reason != ReasonFailed || !strings.Contains(r.Text, "no memory") || e.words.State(o.Slot, o.Sequence) != Touched {
		t.Errorf("a handler that fails: %+v", r)
	}
	busy := e.offer(Meta{Cookie: cookie, Listener: 1}, ours) // the worker stands still in it
	late := e.offer(Meta{Cookie: cookie}, ours)
	if !e.words.Revoke(late.Slot, late.Sequence) {
		t.Error("what the worker has not taken cannot be revoked")
	}
	for e.words.State(busy.Slot, busy.Sequence) != Touched {
		time.Sleep(time.Millisecond)
	}
	if e.words.Revoke(busy.Slot, busy.Sequence) {
		t.Error("what the worker touches was revoked")
	}
	close(gate)
	for e.report().Answered < late.Sequence {
	}
	if s := e.words.State(late.Slot, late.Sequence); s != Revoked {
		t.Errorf("the revoked offer is %v", s)
	}
	if err := e.master.Send(t.Context(), KindDrain, &Drain{Time: time.Second}); err != nil {
		t.Fatal(err)
	}
	o = e.offer(Meta{Cookie: cookie}, ours)
	if r := e.refusal(); r.Reason != ReasonDraining || e.words.State(o.Slot, o.Sequence) != Refused {
		t.Errorf("while it drains: %+v", r)
	}
	// Nothing of all that closed the connection.
	io.WriteString(ours, "still here")
	b := make([]byte, 10)
	if _, err := io.ReadFull(theirs, b); err != nil || string(b) != "still here" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestWorker_returns gives a connection back with what was read of it.
func TestWorker_returns(t *testing.T) { bothWays(t, workerReturns) }

func workerReturns(t *testing.T) {
	e := pair(t, WorkerConfig{})
	e.run(func(c *Conn) error {
		s, err := c.Socket()
		if err != nil {
			return err
		}
		b := make([]byte, 3)
		if _, err := io.ReadFull(s, b); err != nil {
			return err
		}
		if err := e.worker.Return(t.Context(), &Return{To: 7, Meta: Meta{Cookie: c.Cookie, Hops: 1, Preread: make([]byte, MaxCarry+1)}}, s); !errors.Is(err, ErrFrame) {
			t.Errorf("too much that goes along: %v", err)
		}
		m := c.Meta
		m.Hops, m.Preread, m.State = 1, b, []byte("state")
		if err := e.worker.Return(t.Context(), &Return{To: 7, Meta: m}, s); err != nil {
			return err
		}
		e.worker.Words().Closed()
		return s.Release()
	})
	theirs, ours, cookie := client(t)
	io.WriteString(theirs, "abcdef")
	e.offer(Meta{Cookie: cookie, Client: "c"}, ours)
	f, files, err := e.master.Recv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	var r Return
	if err := r.ParseBody(f.Body); err != nil || f.Kind != KindReturn || r.To != 7 || string(r.Preread) != "abc" || string(r.State) != "state" || r.Hops != 1 || r.Client != "c" {
		t.Fatalf("%v, %v, %+v", err, f.Kind, r)
	}
	if got, err := Cookie(files.Peek(0)); err != nil || got != cookie {
		t.Errorf("cookie %x of %x, %v", got, cookie, err)
	}
	s, err := files.TakeConn(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := make([]byte, 3)
	if _, err := io.ReadFull(s, b); err != nil || string(b) != "def" {
		t.Errorf("the rest is %q, %v", b, err)
	}
}

// TestWorker_breaks ends a worker's channel by what breaks the protocol; the connection that came along stays the master's.
func TestWorker_breaks(t *testing.T) { bothWays(t, workerBreaks) }

func workerBreaks(t *testing.T) {
	raw := func(f Frame) func(*ends, *net.TCPConn) {
		return func(e *ends, c *net.TCPConn) {
			var files []syscall.Conn
			if f.Kind == KindOffer {
				files = append(files, c)
			}
			if err := e.master.conn.Send(AppendFrame(nil, f), files...); err != nil {
				e.t.Fatal(err)
			}
		}
	}
	one := AppendOffer(nil, &Offer{Sequence: 1})
	for name, c := range map[string]struct {
		send func(*ends, *net.TCPConn)
		want error
	}{
		"no frame":           {func(e *ends, _ *net.TCPConn) { e.master.conn.Send([]byte("hello")) }, ErrFrame},
		"another generation": {raw(Frame{Version: 1, Kind: KindOffer, Files: 1, Generation: 4, Body: one}), ErrGeneration},
		"another version":    {raw(Frame{Version: 2, Kind: KindOffer, Files: 1, Generation: 5, Body: one}), ErrVersion},
		"no descriptor":      {raw(Frame{Version: 1, Kind: KindDrain, Files: 1, Generation: 5, Body: make([]byte, 4)}), ErrFiles},
		"two connections":    {raw(Frame{Version: 1, Kind: KindOffer, Files: 1, Generation: 5, Body: append(one, one...)}), ErrFiles},
		"an empty offer":     {raw(Frame{Version: 1, Kind: KindOffer, Files: 1, Generation: 5}), ErrFrame},
		"a worker's frame":   {raw(Frame{Version: 1, Kind: KindReport, Generation: 5, Body: make([]byte, 17)}), ErrFrame},
		"unknown, critical":  {raw(Frame{Version: 1, Kind: 99, Critical: true, Generation: 5}), ErrUnsupported},
		"unknown, then bad": {func(e *ends, c *net.TCPConn) {
			raw(Frame{Version: 1, Kind: 99, Generation: 5})(e, c)
			raw(Frame{Version: 1, Kind: 98, Critical: true, Generation: 5})(e, c)
		}, ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			e := pair(t, WorkerConfig{})
			e.run(func(*Conn) error { t.Error("served"); return nil })
			theirs, ours, _ := client(t)
			c.send(e, ours)
			var bye Goodbye
			if err := bye.ParseBody(e.until(KindGoodbye).Body); err != nil || bye.Text == "" {
				t.Errorf("GOODBYE %+v, %v", bye, err)
			}
			if err := <-e.ended; !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			io.WriteString(ours, "x")
			if _, err := io.ReadFull(theirs, make([]byte, 1)); err != nil {
				t.Errorf("the connection: %v", err)
			}
		})
	}
}

// TestJoin_refuses answers a HELLO that a worker cannot work with.
func TestJoin_refuses(t *testing.T) {
	for name, c := range map[string]struct {
		hello Hello
		want  error // the worker's
		told  error // the master's
	}{
		"a later version": {Hello{Min: 2, Max: 3, Generation: 1, Slots: 8, Credit: 1}, ErrVersion, ErrVersion},
		"a feature":       {Hello{Min: 1, Max: 1, Required: 4, Generation: 1, Slots: 8, Credit: 1}, ErrVersion, ErrVersion},
		"another table":   {Hello{Min: 1, Max: 1, Generation: 1, Slots: 9999, Credit: 1}, ErrWords, fdpass.ErrPeerGone},
		"nonsense":        {Hello{Min: 1, Max: 1, Generation: 1, Slots: 8}, ErrFrame, fdpass.ErrPeerGone},
	} {
		t.Run(name, func(t *testing.T) {
			fdtest.Audit(t)
			a, b, err := fdpass.Pair(fdpass.Seqpacket)
			if err != nil {
				t.Fatal(err)
			}
			master, words := newChannel(t, a), makeWords(t, 8)
			defer master.Close()
			joined := make(chan error, 1)
			go func() {
				_, err := Join(t.Context(), newChannel(t, b), dupFile(t, words.File()), WorkerConfig{})
				joined <- err
			}()
			if _, err := master.Greet(t.Context(), &c.hello); !errors.Is(err, c.told) {
				t.Errorf("the master is told %v, want %v", err, c.told)
			}
			if err := <-joined; !errors.Is(err, c.want) {
				t.Errorf("the worker: %v, want %v", err, c.want)
			}
		})
	}
	t.Run("a stream socket", func(t *testing.T) {
		a, b, err := fdpass.Pair(fdpass.Stream)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		defer b.Close()
		if _, err := NewChannel(a); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	})
}

// openFiles counts the descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestWorker_leaks repeats what is refused and broken off: no descriptor stays.
func TestWorker_leaks(t *testing.T) { bothWays(t, workerLeaks) }

func workerLeaks(t *testing.T) {
	before := openFiles(t)
	for range 20 {
		t.Run("", func(t *testing.T) {
			e := pair(t, WorkerConfig{})
			e.run(func(*Conn) error { return nil }) // and does not take the descriptor
			_, ours, cookie := client(t)
			e.offer(Meta{Cookie: cookie}, ours)
			e.offer(Meta{Cookie: 1}, ours)
			e.refusal()
			e.offer(Meta{Cookie: cookie}, ours, ours)
			<-e.ended
		})
	}
	for end := time.Now().Add(time.Minute); openFiles(t) > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors, %d before", openFiles(t), before)
		}
	}
}
