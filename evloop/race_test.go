//go:build linux

package evloop

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Posters, close storms and connections that move between loops, all at
// once: for the race detector, and for what may get lost.
func TestStorm(t *testing.T) {
	audit(t)
	const loops, posters, posts, moves = 4, 64, 200, 50
	var rs []*running
	for i := range loops {
		rs = append(rs, startLoop(t, Config{Backend: Backends()[i%len(Backends())]}))
	}
	var ran atomic.Int64
	var wg sync.WaitGroup
	for range posters {
		wg.Go(func() {
			for i := range posts {
				if err := rs[i%loops].Post(func() { ran.Add(1) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ln := rs[0].listen("tcp", "127.0.0.1:0", newEcho)
	for i := range 16 { // clients that come and go, politely or not
		wg.Go(func() {
			for k := range 20 {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte("hello"))
				if (i+k)%2 == 0 {
					_, _ = io.ReadFull(c, make([]byte, 5))
				} else {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
				_ = c.Close()
			}
		})
	}
	for k := range 4 { // a connection travels while its peer talks
		p := socketPair(t, []string{"tcp", "unix"}[k%2], 0)
		c := rs[0].adopt(p.fd, newEcho())
		wg.Go(func() { roundTrip(t, p.peer, p.peer, random(uint64(k), 2<<20)) })
		wg.Go(func() {
			at := 0
			for range moves {
				to := rand.IntN(loops)
				d := detach(t, rs[at], c)
				rs[to].do(func() {
					var err error
					c, err = rs[to].Adopt(d.FD, d.Unread, newEcho())
					check(t, err)
					_, _ = c.Write(d.Unsent)
				})
				at = to
			}
		})
	}
	wg.Wait()
	eventually(t, "everything posted ran", func() bool { return ran.Load() == posters*posts })
}

func detach(t *testing.T, r *running, c *Conn) (d Detached) {
	t.Helper()
	r.do(func() {
		var err error
		if d, err = c.Detach(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Memory that many connections buffer stays near the budget by pausing, and
// what pausing cannot free is evicted.
func TestBudget(t *testing.T) {
	audit(t)
	b := NewBudget(1 << 20)
	r := startLoop(t, Config{Budget: b, HighWater: 1 << 30})
	const n = 40
	var wg sync.WaitGroup
	var deaf []pair
	for range n {
		p := socketPair(t, "unix", 0)
		deaf = append(deaf, p)
		r.adopt(p.fd, newEcho())
	}
	honest := socketPair(t, "tcp", 0)
	r.adopt(honest.fd, newEcho())
	began := time.Now()
	for _, p := range deaf {
		wg.Go(func() { _, _ = p.peer.Write(make([]byte, 1<<20)) })
	}
	eventually(t, "the budget is used up", func() bool { return b.Used() > b.Limit() })
	roundTrip(t, honest.peer, honest.peer, []byte("still served"))
	if used, most := b.Used(), b.Limit()+(n+1)*readBuffer; used > most {
		t.Errorf("%d bytes used of %d", used, b.Limit())
	}
	for _, p := range deaf { // they listen after all: everything drains
		wg.Go(func() { _, _ = io.CopyN(io.Discard, p.peer, 1<<20) })
	}
	wg.Wait()
	eventually(t, "all is given back", func() bool { return b.Used() == 0 })
	if n, took := r.stats().Evicted, time.Since(began); n != 0 && took < evictAfter {
		t.Errorf("%d connections were evicted within %v although pausing was enough", n, took)
	}
}

func TestBudget_evictsHalfMessages(t *testing.T) {
	audit(t)
	b := NewBudget(100 << 10)
	w := newWorld(rand.New(rand.NewPCG(1, 1)), map[triple]int{})
	l := newLoop(Config{Budget: b, Log: quietLog()}, fakePoller{w}, w, func() int64 { return w.now })
	var errs []error
	for range 3 { // halves of messages that never end
		s := &sock{script: make([]byte, 60<<10), sent: 60 << 10, files: map[int][]int{}}
		fd := w.alloc(s)
		w.byFD[fd] = s
		l.quota.claim()
		c, err := l.adopt(fd, nil, nil, &funcs{
			data:   func(*Conn, []byte) int { return 0 },
			closed: func(_ *Conn, err error) { errs = append(errs, err) },
		})
		check(t, err)
		c.kind = kindTCP
	}
	for range 100 {
		check(t, l.turn())
		w.now += int64(evictAfter) / 50
	}
	if b.Used() > b.Limit() || len(errs) == 0 || l.stats.Evicted == 0 {
		t.Fatalf("%d of %d bytes used, %d evicted", b.Used(), b.Limit(), l.stats.Evicted)
	}
}
