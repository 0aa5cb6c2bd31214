//go:build linux

package evloop

import (
	"io"
	"slices"
	"testing"
	"time"
)

// TestSpinner holds that spins for nothing become rare and one that pays
// brings them back.
func TestSpinner(t *testing.T) {
	audit(t)
	var s spinner
	spun := 0
	for range 1000 {
		if s.worth() {
			spun++
			s.ended(false)
		}
	}
	if spun > 30 {
		t.Errorf("%d of 1,000 sleeps were put off for nothing", spun)
	}
	for !s.worth() {
	}
	s.ended(true)
	for range 10 {
		if !s.worth() {
			t.Fatal("no spin after one that paid")
		}
		s.ended(true)
	}
}

// TestSpin_stalled has a payload that does not come: the loop sleeps.
func TestSpin_stalled(t *testing.T) {
	audit(t)
	r := startLoop(t, Config{})
	p := socketPair(t, "tcp", 0)
	h := &collect{t: t, got: make(chan []byte, 1), failed: make(chan error, 1)}
	r.adopt(p.fd, h)
	stream, want := framesOf(1 << 20)
	_, err := p.peer.Write(stream[:len(stream)/2])
	check(t, err)
	stats := func() (s LoopStats) {
		r.do(func() { s = r.Stats() })
		return s
	}
	waitFor(t, func() bool { // what has been sent may still be coming, and a spin that is held up ends without a nap
		before := stats()
		time.Sleep(50 * time.Millisecond) // in which nothing is to happen
		after := stats()
		quiet := after.SpinsMissed > 0 && after.Naps > 0 && after.Spins-before.Spins <= 2 && after.Turns-before.Turns <= 8 // asking makes some turns
		if after.Naps > 8*after.Spins {
			t.Fatalf("%d naps in %d spins", after.Naps, after.Spins)
		}
		return quiet
	})
	_, err = p.peer.Write(stream[len(stream)/2:])
	check(t, err)
	if got := recv(t, h.got); len(got) != len(want[0]) {
		t.Errorf("%d bytes", len(got))
	}
}

// TestSpin_small has small messages answered: with Config.Spin the loop asks
// on after each, as long as that pays, and without it never.
func TestSpin_small(t *testing.T) {
	audit(t)
	for _, spin := range []bool{false, true} {
		r := startLoop(t, Config{Spin: spin})
		p := socketPair(t, "tcp", 0)
		r.adopt(p.fd, &funcs{data: func(c *Conn, b []byte) int {
			_, err := c.Write(b)
			check(t, err)
			return len(b)
		}})
		stats := func() (s LoopStats) {
			r.do(func() { s = r.Stats() })
			return s
		}
		one := make([]byte, 1)
		exchange := func(n int) {
			for range n {
				_, err := p.peer.Write(one)
				check(t, err)
				_, err = io.ReadFull(p.peer, one)
				check(t, err)
			}
		}
		exchange(200)
		s := stats()
		t.Logf("spin %v: %d spins, %d of them missed, %d sleeps in 200 exchanges", spin, s.Spins, s.SpinsMissed, s.Sleeps)
		if spin != (s.Spins > 0) {
			t.Errorf("spin %v: %d spins", spin, s.Spins)
		}
		before := stats()
		for range 64 { // apart: at most every second sleep is put off, and ever fewer are
			time.Sleep(time.Millisecond)
			exchange(1)
		}
		time.Sleep(50 * time.Millisecond) // in which nothing is to happen
		after := stats()
		if n := after.SpinsMissed - before.SpinsMissed; n > 16 {
			t.Errorf("%d spins for nothing while messages came apart", n)
		}
		if n := after.Turns - before.Turns; n > 64*5 {
			t.Errorf("%d turns in 64 exchanges", n)
		}
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

// served notes which connection each piece was for, and makes it take long.
type served struct {
	Base
	order *[]int
	now   *int64
	id    int
}

func (s *served) Open(c *Conn) { _ = c.ReadInto(make([]byte, 64<<20), s) }
func (s *served) Part(*Conn, []byte) {
	*s.now += turnTime
	*s.order = append(*s.order, s.id)
}
func (s *served) Done(*Conn, error) {}

// TestTurn_bounded has bulk ready on many connections, each piece of which
// takes as long as a turn may: small messages are answered in every turn,
// and bulk is served in turn.
func TestTurn_bounded(t *testing.T) {
	audit(t)
	const conns = 6
	p, err := Open("auto")
	check(t, err)
	now := int64(1)
	l := newLoop(Config{Log: quietLog()}, p, newSystem(), func() int64 { return now })
	l.lim.sink, l.lim.piece = 4<<10, 4<<10
	var order []int
	for i := range conns {
		pair := socketPair(t, "unix", 0)
		_, err := pair.peer.Write(make([]byte, 100<<10))
		check(t, err)
		_, err = l.Adopt(pair.fd, nil, &served{order: &order, now: &now, id: i})
		check(t, err)
	}
	small := socketPair(t, "unix", 0)
	answered := 0
	_, err = l.Adopt(small.fd, nil, &funcs{data: func(_ *Conn, b []byte) int { answered++; return len(b) }})
	check(t, err)
	for i := range 4 * conns {
		_, err := small.peer.Write([]byte("x"))
		check(t, err)
		check(t, l.turn())
		if answered != i+1 || len(order) != i+1 {
			t.Fatalf("after %d turns %d small messages were answered and %d pieces read", i+1, answered, len(order))
		}
	}
	for round := range 4 {
		seen := slices.Sorted(slices.Values(order[round*conns : (round+1)*conns]))
		if len(slices.Compact(seen)) != conns {
			t.Errorf("round %d served %v", round, order[round*conns:(round+1)*conns])
		}
	}
	l.shutdown()
}
