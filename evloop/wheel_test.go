//go:build linux

package evloop

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every deadline is met within a tick, never early, whatever its distance,
// and looking for the next costs nothing while none is set.
func TestWheel(t *testing.T) {
	audit(t)
	var w wheel
	rng := rand.New(rand.NewPCG(7, 7))
	now := int64(12345)
	w.init(now)
	if w.next() != 0 {
		t.Fatal("an empty wheel has a deadline")
	}
	due := map[*Conn]int64{}
	for range 2000 {
		c := &Conn{slot: -1}
		due[c] = now + rng.Int64N(int64(3*time.Minute))
		w.arm(c, due[c])
	}
	for len(due) > 0 {
		next := w.next()
		if next <= now-int64(wheelTick) {
			t.Fatalf("next %d is before now %d", next, now)
		}
		now = max(now, next)
		w.advance(now, func(c *Conn) {
			switch at := due[c]; {
			case now < at:
				w.arm(c, at)
			case now-at > 2*int64(wheelTick):
				t.Fatalf("%v late", time.Duration(now-at))
			default:
				delete(due, c)
			}
		})
	}
	if w.next() != 0 {
		t.Fatal("a wheel without connections has a deadline")
	}
}

func TestIdle(t *testing.T) {
	audit(t)
	w := newWorld(rand.New(rand.NewPCG(1, 1)), map[triple]int{})
	l := newLoop(Config{Idle: time.Minute, Log: quietLog()}, fakePoller{w}, w, func() int64 { return w.now })
	s := &sock{script: make([]byte, 100), files: map[int][]int{}}
	fd := w.alloc(s)
	w.byFD[fd] = s
	l.quota.claim()
	var closed error
	_, err := l.adopt(fd, &unix.SockaddrInet4{}, nil, &funcs{closed: func(_ *Conn, err error) { closed = err }})
	check(t, err)
	for i := range 100 { // a byte every 50 s keeps it open
		s.sent = i + 1
		check(t, l.turn())
		check(t, l.turn())
		w.now += int64(50 * time.Second)
	}
	check(t, l.turn())
	if closed != nil {
		t.Fatalf("closed although active: %v", closed)
	}
	w.now += int64(61 * time.Second)
	check(t, l.turn())
	check(t, l.turn())
	if !errors.Is(closed, ErrIdle) {
		t.Fatalf("closed with %v", closed)
	}
}

func TestTimers(t *testing.T) {
	audit(t)
	w := newWorld(rand.New(rand.NewPCG(1, 1)), map[triple]int{})
	l := newLoop(Config{Log: quietLog()}, fakePoller{w}, w, func() int64 { return w.now })
	var order []int
	for _, ms := range []int{30, 10, 20} {
		l.After(time.Duration(ms)*time.Millisecond, func() { order = append(order, ms) })
	}
	stopped := l.After(15*time.Millisecond, func() { t.Error("a stopped timer ran") })
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop does not tell whether it stopped")
	}
	for range 40 {
		check(t, l.turn())
		w.now += int64(time.Millisecond)
	}
	if len(order) != 3 || order[0] != 10 || order[1] != 20 || order[2] != 30 {
		t.Errorf("order %v", order)
	}
	if l.timeout() >= 0 {
		t.Error("a loop without timers would wake up")
	}
}

// kqueue reports reading and writing apart; one Event per descriptor comes
// of it, whatever the order, and nothing of the batch before.
func TestMerge(t *testing.T) {
	audit(t)
	type in struct {
		fd    int
		ready Interest
		hup   bool
	}
	for name, test := range map[string]struct {
		batches [][]in
		want    [][]Event
	}{
		"read then write":   {[][]in{{{5, Read, false}, {5, Write, false}}}, [][]Event{{{5, Read | Write, false}}}},
		"others in between": {[][]in{{{5, Write, false}, {7, Read, false}, {5, Read, true}, {0, Read, false}}}, [][]Event{{{5, Read | Write, true}, {7, Read, false}, {0, Read, false}}}},
		"next batch":        {[][]in{{{5, Read, true}}, {{5, Write, false}}}, [][]Event{{{5, Read, true}}, {{5, Write, false}}}},
		"hup stays":         {[][]in{{{9, Write, true}, {9, Read, false}}}, [][]Event{{{9, Read | Write, true}}}},
	} {
		t.Run(name, func(t *testing.T) {
			var m merger
			ev := make([]Event, 8)
			for i, batch := range test.batches {
				m.begin()
				k := 0
				for _, e := range batch {
					k = m.add(ev, k, e.fd, e.ready, e.hup)
				}
				if k != len(test.want[i]) {
					t.Fatalf("batch %d: %v", i, ev[:k])
				}
				for j, e := range test.want[i] {
					if ev[j] != e {
						t.Errorf("batch %d: %v, want %v", i, ev[:k], test.want[i])
					}
				}
			}
		})
	}
}
