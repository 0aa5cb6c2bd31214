//go:build linux

package evloop

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eachTransport runs f for every backend, transport and descriptor range.
func eachTransport(t *testing.T, f func(t *testing.T, r *running, network string, low int)) {
	eachBackend(t, func(t *testing.T, backend string) {
		for _, network := range []string{"tcp", "unix"} {
			for name, low := range map[string]int{"low": 0, "high": 2500} {
				t.Run(network+"/"+name, func(t *testing.T) {
					f(t, startLoop(t, Config{Backend: backend}), network, low)
				})
			}
		}
	})
}

func TestConformance_echo(t *testing.T) {
	audit(t)
	eachTransport(t, func(t *testing.T, r *running, network string, low int) {
		p := socketPair(t, network, low)
		r.adopt(p.fd, newEcho())
		for _, n := range []int{1, 64, 65535, 65536, 65537, 4 << 20} {
			roundTrip(t, p.peer, p.peer, random(uint64(n), n))
		}
	})
}

func TestConformance_pipes(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		for name, low := range map[string]int{"low": 0, "high": 2500} {
			t.Run(name, func(t *testing.T) {
				r := startLoop(t, Config{Backend: backend})
				in, out := pipePair(t, true, low), pipePair(t, false, low)
				w := r.adopt(out.fd, Base{})
				r.adopt(in.fd, &funcs{
					data: func(c *Conn, b []byte) int {
						if _, err := w.Write(b); err != nil {
							c.Abort(err)
						}
						return len(b)
					},
					closed: func(*Conn, error) { w.Close() },
				})
				roundTrip(t, in.peer, out.peer, random(7, 1<<20))
				check(t, in.peer.Close())
				if n, err := out.peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Fatalf("after the writer closed: read %d, %v; want EOF", n, err)
				}
			})
		}
	})
}

func TestConformance_halfClose(t *testing.T) {
	audit(t)
	eachTransport(t, func(t *testing.T, r *running, network string, low int) {
		p := socketPair(t, network, low)
		closed := make(chan error, 1)
		r.adopt(p.fd, &funcs{
			data:   echo{}.Data,
			closed: func(_ *Conn, err error) { closed <- err },
		})
		data := random(3, 3<<20)
		go func() {
			_, _ = p.peer.Write(data)
			closeWrite(t, p.peer)
		}()
		got, err := io.ReadAll(p.peer)
		if err != nil || len(got) != len(data) {
			t.Fatalf("got %d of %d bytes after the half close: %v", len(got), len(data), err)
		}
		if err := recv(t, closed); err != nil {
			t.Fatalf("closed with %v, want nil", err)
		}
	})
}

// A connection closed by a callback of the same batch is not called again,
// and its number not reused before the batch is over.
func TestConformance_closeInBatch(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend})
		var conns []*Conn
		var pairs []pair
		var after atomic.Int32
		gone := make(chan error, 8)
		h := &funcs{
			data: func(c *Conn, b []byte) int {
				if c.Closed() {
					after.Add(1)
				}
				for _, o := range conns {
					if o != c {
						o.Abort(nil)
					}
				}
				return len(b)
			},
			closed: func(_ *Conn, err error) { gone <- err },
		}
		for range 8 {
			p := socketPair(t, "unix", 0)
			pairs = append(pairs, p)
			conns = append(conns, r.adopt(p.fd, h))
		}
		r.do(func() { // all become ready while the loop is here: one batch
			for _, p := range pairs {
				_, _ = p.peer.Write([]byte("x"))
			}
		})
		for range 7 {
			recv(t, gone)
		}
		if after.Load() != 0 {
			t.Fatal("a closed connection got data")
		}
		if n := r.stats().Conns; n != 1 {
			t.Fatalf("%d connections left, want 1", n)
		}
	})
}

// One event that is readable and writable serves both.
func TestConformance_readAndWrite(t *testing.T) {
	audit(t)
	eachTransport(t, func(t *testing.T, r *running, network string, low int) {
		p := socketPair(t, network, low)
		r.do(func() { r.cfg.HighWater = 64 << 20 }) // else reading pauses
		got := make(chan int, 1000)
		c := r.adopt(p.fd, &funcs{data: func(_ *Conn, b []byte) int { got <- len(b); return len(b) }})
		data := random(5, 8<<20)
		sent := make(chan error, 1)
		r.do(func() { check(t, c.WriteOwned(data, func(err error) { sent <- err })) })
		eventually(t, "output blocks", func() (blocked bool) {
			r.do(func() { blocked = c.flags&flBlocked != 0 })
			return blocked
		})
		_, err := p.peer.Write([]byte("ping")) // readable while output waits
		check(t, err)
		if n := recv(t, got); n != 4 {
			t.Fatalf("read %d bytes, want 4", n)
		}
		n, err := io.Copy(io.Discard, io.LimitReader(p.peer, int64(len(data))))
		if err != nil || n != int64(len(data)) {
			t.Fatalf("peer read %d of %d: %v", n, len(data), err)
		}
		check(t, recv(t, sent))
	})
}

func TestConformance_pauseResume(t *testing.T) {
	audit(t)
	eachTransport(t, func(t *testing.T, r *running, network string, low int) {
		p := socketPair(t, network, low)
		got := make(chan string, 100)
		c := r.adopt(p.fd, &funcs{data: func(c *Conn, b []byte) int {
			got <- string(b[:1])
			c.Pause() // one byte per Resume; the rest stays
			return 1
		}})
		_, err := p.peer.Write([]byte("abc"))
		check(t, err)
		for _, want := range []string{"a", "b", "c"} {
			if s := recv(t, got); s != want {
				t.Fatalf("got %q, want %q", s, want)
			}
			select {
			case s := <-got:
				t.Fatalf("got %q while paused", s)
			default:
			}
			r.do(c.Resume)
		}
	})
}

// While a connection is paused, a reset of its peer is noticed by the
// backends that report it, and never makes the loop spin.
func TestConformance_hangUpWhilePaused(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(network, func(t *testing.T) {
				r := startLoop(t, Config{Backend: backend})
				p := socketPair(t, network, 0)
				c := r.adopt(p.fd, Base{})
				r.do(c.Pause)
				check(t, p.peer.Close())
				eventually(t, "the loop to settle", func() bool {
					before := r.stats().Turns
					time.Sleep(20 * time.Millisecond)
					return r.stats().Turns-before < 10
				})
			})
		}
	})
}

// Every descriptor is served although more are ready than a batch holds.
func TestConformance_fairness(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		const n = 3 * eventBatch
		r := startLoop(t, Config{Backend: backend})
		served := make(map[*Conn]bool)
		all := make(chan struct{})
		r.do(func() {
			for range n {
				fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				check(t, err)
				_, err = unix.Write(fds[1], make([]byte, 1000))
				check(t, err)
				t.Cleanup(func() { _ = unix.Close(fds[1]) })
				_, err = r.Adopt(fds[0], nil, &funcs{data: func(c *Conn, b []byte) int {
					if served[c] = true; len(served) == n {
						close(all)
					}
					r.pushAgain(c)
					_ = unix.Send(fds[1], []byte("z"), unix.MSG_DONTWAIT) // always ready
					return len(b)
				}})
				check(t, err)
			}
		})
		recv(t, all)
		r.do(func() { served = map[*Conn]bool{nil: true} })
	})
}

// Idle means idle: no wake-ups without timers.
func TestIdleLoopSleeps(t *testing.T) {
	audit(t)
	idle := 10 * time.Second
	if testing.Short() {
		idle = time.Second
	}
	var loops []*running
	for _, b := range Backends() {
		r := startLoop(t, Config{Backend: b})
		for range 3 {
			p := socketPair(t, "tcp", 0)
			r.adopt(p.fd, newEcho())
			roundTrip(t, p.peer, p.peer, []byte("hello"))
		}
		loops = append(loops, r)
	}
	var before []LoopStats
	for _, r := range loops {
		before = append(before, r.stats())
	}
	time.Sleep(idle)
	for i, r := range loops {
		s := r.stats() // itself one wake-up; a signal of the runtime may be another
		if n := s.Turns - before[i].Turns; n > 6 {
			t.Errorf("%s: %d turns in %v of idleness", s.Backend, n, idle)
		}
	}
}

// A message costs no registration call once the connection stands.
func TestNoRegistrationPerMessage(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend})
		p := socketPair(t, "tcp", 0)
		c := r.adopt(p.fd, newEcho())
		roundTrip(t, p.peer, p.peer, []byte("warm"))
		before := r.stats().Registrations
		for range 1000 {
			roundTrip(t, p.peer, p.peer, []byte("0123456789"))
		}
		if n := r.stats().Registrations - before; n != 0 {
			t.Errorf("%d registration calls for 1000 messages", n)
		}
		var s ConnStats
		r.do(func() { s = c.Stats() })
		if s.BytesIn != 10004 || s.BytesOut != 10004 || s.Writes != 1001 || s.Reads < 1001 {
			t.Errorf("stats %+v", s)
		}
	})
}
