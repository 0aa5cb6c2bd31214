//go:build linux

package evloop

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Each test here is named for a bug of the textbook's event-driven servers.
// TestPlanted plants the bugs and sees them fail.

func TestTutorial_sentMessageLeavesTheQueue(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend})
		p := socketPair(t, "tcp", 0)
		c := r.adopt(p.fd, newEcho())
		for i := range 100 {
			roundTrip(t, p.peer, p.peer, fmt.Appendf(nil, "message %d", i))
		}
		r.do(func() {
			if c.Queued() != 0 || c.out != nil {
				t.Errorf("%d bytes still queued", c.Queued())
			}
		})
		_ = p.peer.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, _ := p.peer.Read(make([]byte, 1)); n != 0 {
			t.Error("a message came twice")
		}
	})
}

func TestTutorial_partialWriteKeepsTheRest(t *testing.T) {
	audit(t)
	eachTransport(t, func(t *testing.T, r *running, network string, low int) {
		p := socketPair(t, network, low)
		check(t, unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
		c := r.adopt(p.fd, Base{})
		var want []byte
		r.do(func() {
			for i := range 200 {
				b := random(uint64(i), 1+i*37)
				want = append(want, b...)
				if i%2 == 0 {
					_, _ = c.Write(b)
				} else {
					check(t, c.Send(Message{Bufs: [][]byte{b[:i], b[i:]}}))
				}
			}
		})
		got := make([]byte, len(want))
		if _, err := io.ReadFull(p.peer, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the stream differs: %v", err)
		}
		var s ConnStats
		r.do(func() { s = c.Stats() })
		if s.ShortWrites == 0 {
			t.Error("no write was short: the test tests nothing")
		}
	})
}

func TestTutorial_shutdownClosesEveryClient(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		l, err := New(Config{Backend: backend, Log: quietLog()})
		check(t, err)
		r := start(t, l)
		var closed atomic.Int32
		ln := r.listen("tcp", "127.0.0.1:0", func() Handler {
			return &funcs{closed: func(*Conn, error) { closed.Add(1) }}
		})
		var clients []net.Conn
		for range 50 {
			clients = append(clients, dial(t, ln))
		}
		eventually(t, "all accepted", func() bool { return r.stats().Conns == 50 })
		r.do(r.Stop)
		for _, c := range clients {
			if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
				t.Fatalf("a client is still open: %v", err)
			}
		}
		if n := closed.Load(); n != 50 {
			t.Errorf("Close called %d times for 50 clients", n)
		}
	})
}

func TestTutorial_closedInReadPassNotUsedInWritePass(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend, HighWater: 64 << 20})
		p := socketPair(t, "unix", 0)
		var c *Conn
		closed := make(chan error, 2)
		done := make(chan error, 2)
		c = r.adopt(p.fd, &funcs{
			data:   func(c *Conn, b []byte) int { c.Abort(nil); return len(b) },
			closed: func(_ *Conn, err error) { closed <- err },
		})
		r.do(func() { check(t, c.WriteOwned(make([]byte, 4<<20), func(err error) { done <- err })) })
		eventually(t, "output blocks", func() (b bool) { r.do(func() { b = c.flags&flBlocked != 0 }); return b })
		_, _ = p.peer.Write([]byte("now both"))
		_, _ = io.ReadFull(p.peer, make([]byte, 100<<10))
		if recv(t, closed) == nil || recv(t, done) == nil {
			t.Fatal("Abort ended without an error")
		}
		r.do(func() {
			if _, err := c.Write([]byte("x")); err == nil {
				t.Error("a closed connection takes output")
			}
		})
		if len(closed) > 0 || len(done) > 0 {
			t.Error("a callback was called twice")
		}
	})
}

func TestTutorial_urgentByteStaysInLine(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend})
		ln := r.listen("tcp", "127.0.0.1:0", newEcho)
		c := dial(t, ln).(*net.TCPConn)
		for _, part := range []struct {
			b     string
			flags int
		}{{"before ", 0}, {"!", unix.MSG_OOB}, {" after", 0}} {
			raw, err := c.SyscallConn()
			check(t, err)
			check(t, raw.Write(func(fd uintptr) bool {
				err = unix.Sendmsg(int(fd), []byte(part.b), nil, nil, part.flags)
				return err != unix.EAGAIN
			}))
			check(t, err)
		}
		got := make([]byte, len("before ! after"))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "before ! after" {
			t.Fatalf("got %q, %v", got, err)
		}
		before := r.stats().Turns
		time.Sleep(30 * time.Millisecond)
		if n := r.stats().Turns - before; n > 10 {
			t.Errorf("urgent data makes the loop spin: %d turns", n)
		}
	})
}

// Connections that were reset before accept must not end the listener.
func TestTutorial_listenerOutlivesErrors(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend})
		ln := r.listen("tcp", "127.0.0.1:0", newEcho)
		r.do(func() { // accept sees them only after they are gone
			for range 20 {
				c, err := net.Dial("tcp", ln.Addr().String())
				check(t, err)
				check(t, c.(*net.TCPConn).SetLinger(0))
				check(t, c.Close())
			}
		})
		c := dial(t, ln)
		roundTrip(t, c, c, []byte("still here"))
	})
}

func TestTutorial_burstOfConnects(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend})
		ln := r.listen("tcp", "127.0.0.1:0", newEcho)
		const n = 1000
		start := time.Now()
		var wg sync.WaitGroup
		var failed, again atomic.Int32
		for range n {
			wg.Go(func() {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					failed.Add(1)
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				raw, err := c.(*net.TCPConn).SyscallConn()
				check(t, err)
				check(t, raw.Control(func(fd uintptr) {
					if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
						again.Add(int32(info.Total_retrans))
					}
				}))
			})
		}
		wg.Wait()
		eventually(t, "all accepted", func() bool { return r.stats().Accepted >= n-int64(failed.Load()) })
		if failed.Load() > 0 {
			t.Errorf("%d of %d connects failed", failed.Load(), n)
		}
		took := time.Since(start)
		t.Logf("%d connects accepted in %v", n, took)
		if n := again.Load(); n > 0 && took > 5*time.Second { // a dropped SYN costs at least one
			t.Errorf("the burst took %v, and %d segments were sent again", took, n)
		}
	})
}

// A reader that never reads costs a bounded amount, and honest clients
// beside it nothing.
func TestTutorial_deafReader(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend, LowWater: 16 << 10, HighWater: 64 << 10})
		deaf, honest := socketPair(t, "unix", 0), socketPair(t, "tcp", 0)
		c := r.adopt(deaf.fd, newEcho())
		r.adopt(honest.fd, newEcho())
		wrote := make(chan error, 1)
		go func() {
			_, err := deaf.peer.Write(make([]byte, 64<<20))
			wrote <- err
		}()
		eventually(t, "the deaf client is paused", func() (paused bool) {
			r.do(func() { paused = c.paused() })
			return paused || len(wrote) > 0
		})
		check(t, deaf.peer.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		if err := recv(t, wrote); !os.IsTimeout(err) {
			t.Fatalf("a deaf client could send all it had: %v", err)
		}
		roundTrip(t, honest.peer, honest.peer, random(1, 1<<20))
		var s ConnStats
		var q int64
		r.do(func() { s, q = c.Stats(), c.Queued() })
		if q < 64<<10 || s.OutPeak > 64<<10+readBuffer {
			t.Errorf("queued %d, peak %d, high water %d", q, s.OutPeak, 64<<10)
		}
		if s.Paused == 0 {
			t.Error("no paused time was counted")
		}
	})
}

func TestTutorial_linesOfBytes(t *testing.T) {
	audit(t)
	const max = 10000
	long := strings.Repeat("ä€𝄞", 1200)[:max] // a character lies across byte 4,096
	text := "\n\nfirst\n\xff\xfe\n" + long + "\n\r\n\x00\nlast\r\n"
	for _, cut := range []int{1, 3, 4095, 4096, len(text)} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			r := startLoop(t, Config{})
			p := socketPair(t, "tcp", 0)
			r.adopt(p.fd, &Lines{Max: max, Line: func(c *Conn, line []byte) error {
				_, err := c.Write(line)
				return err
			}})
			go func() {
				for rest := text; rest != ""; rest = rest[min(cut, len(rest)):] {
					_, _ = io.WriteString(p.peer, rest[:min(cut, len(rest))])
				}
				_, _ = io.WriteString(p.peer, "rest without end")
				closeWrite(t, p.peer)
			}()
			got, err := io.ReadAll(p.peer)
			if err != nil || string(got) != text {
				t.Fatalf("got %d bytes of %d: %v", len(got), len(text), err)
			}
		})
	}
}

func TestTutorial_lineLimit(t *testing.T) {
	audit(t)
	closed := make(chan error, 1)
	r := startLoop(t, Config{})
	p := socketPair(t, "tcp", 0)
	r.adopt(p.fd, &Lines{Max: 1000, Ended: func(_ *Conn, err error) { closed <- err },
		Line: func(c *Conn, b []byte) error { _, err := c.Write(b); return err }})
	roundTrip(t, p.peer, p.peer, append(bytes.Repeat([]byte("x"), 1000), '\n'))
	_, _ = p.peer.Write(bytes.Repeat([]byte("x"), 1001))
	if err := recv(t, closed); err == nil || !strings.Contains(err.Error(), "1000 bytes") {
		t.Fatalf("closed with %v", err)
	}
}

// A long line that comes byte by byte is searched once, not once per byte.
func TestTutorial_lineNotScannedAgain(t *testing.T) {
	audit(t)
	h := &Lines{Max: 1 << 20, Line: func(*Conn, []byte) error { return nil }}
	c := &Conn{state: stOpen, loop: &Loop{}}
	b := bytes.Repeat([]byte("x"), 1<<16)
	for n := 1; n < len(b); n++ {
		if used := h.Data(c, b[:n]); used != 0 || h.scanned != n {
			t.Fatalf("at %d bytes: used %d, scanned %d", n, used, h.scanned)
		}
	}
	b[len(b)-1] = '\n'
	if used := h.Data(c, b); used != len(b) || h.scanned != 0 {
		t.Fatalf("used %d, scanned %d", used, h.scanned)
	}
}

// Nothing is swallowed: a panic and an error are logged with the peer's
// address, and only their connection is closed.
func TestTutorial_nothingHidden(t *testing.T) {
	audit(t)
	log := &lockedBuffer{}
	r := startLoop(t, Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	closed := make(chan error, 1)
	ln := r.listen("tcp", "127.0.0.1:0", func() Handler {
		return &funcs{
			data: func(c *Conn, b []byte) int {
				if b[0] == 'p' {
					panic("planted")
				}
				return echo{}.Data(c, b)
			},
			closed: func(_ *Conn, err error) { closed <- err },
		}
	})
	good, bad, reset := dial(t, ln), dial(t, ln), dial(t, ln)
	roundTrip(t, good, good, []byte("a"))
	_, _ = bad.Write([]byte("p"))
	if err := recv(t, closed); err == nil || !strings.Contains(err.Error(), "planted") {
		t.Fatalf("closed with %v", err)
	}
	roundTrip(t, reset, reset, []byte("b"))
	check(t, reset.(*net.TCPConn).SetLinger(0))
	check(t, reset.Close())
	if err := recv(t, closed); err == nil {
		t.Fatal("a reset closed without an error")
	}
	roundTrip(t, good, good, []byte("c"))
	for _, want := range []string{"handler panicked", bad.LocalAddr().String(), "connection failed", reset.LocalAddr().String()} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	if s := r.stats(); s.Panics != 1 || s.Errors != 1 {
		t.Errorf("%d panics, %d errors counted", s.Panics, s.Errors)
	}
}

// Durations come from the loop's monotonic clock, whatever the wall clock
// does.
func TestTutorial_durationsAreMonotonic(t *testing.T) {
	audit(t)
	w := newWorld(nil, map[triple]int{})
	w.stateF = func(int) connState { return stOpen }
	l := newLoop(Config{Log: quietLog()}, fakePoller{w}, w, func() int64 { return w.now })
	s := &sock{files: map[int][]int{}}
	fd := w.alloc(s)
	w.byFD[fd] = s
	c, err := l.adopt(fd, &unix.SockaddrInet4{}, nil, Base{})
	check(t, err)
	l.base = l.base.Add(-100 * time.Hour) // the wall clock is set
	w.now += int64(3 * time.Second)
	if d := c.Stats().Duration; d != 3*time.Second {
		t.Fatalf("duration %v, want 3s", d)
	}
}
