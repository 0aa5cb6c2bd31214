//go:build gate && linux

package evloop

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var soak = flag.Duration("soak", 30*time.Second, "length of the soak test")

// TestGateSoak lets clients of every bad habit at a loop of each backend:
// churn, resets, half closes, slow senders and deaf readers, beside honest
// ones. Descriptors, goroutines and memory must be flat at the end.
func TestGateSoak(t *testing.T) {
	audit(t)
	budget := NewBudget(32 << 20)
	var rs []*running
	var lns []*Listener
	for _, b := range Backends() {
		r := startLoop(t, Config{Backend: b, Budget: budget, Idle: 5 * time.Second, Linger: 200 * time.Millisecond, FlushTimeout: 5 * time.Second})
		rs = append(rs, r)
		lns = append(lns, r.listen("tcp", "127.0.0.1:0", newEcho))
	}
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	end := time.Now().Add(*soak)
	var honest, rounds, peak atomic.Int64
	var wg sync.WaitGroup
	for i := range 36 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for time.Now().Before(end) {
				c, err := net.Dial("tcp", lns[i%len(lns)].Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				soakClient(t, i/len(lns)%6, c.(*net.TCPConn), rng, end, &honest)
				_ = c.Close()
				rounds.Add(1)
				peak.Store(max(peak.Load(), budget.Used()))
			}
		})
	}
	wg.Wait()
	for _, r := range rs {
		eventually(t, "every connection is gone", func() bool { return r.stats().Conns == 0 })
		s := r.stats()
		t.Logf("%s: %d accepted, %d turns, longest %v, %d slow callbacks, %d timeouts, %d evicted", s.Backend, s.Accepted, s.Turns, s.LongestTurn, s.SlowCallbacks, s.Timeouts, s.Evicted)
		if s.Panics != 0 {
			t.Errorf("%s: %d panics", s.Backend, s.Panics)
		}
	}
	t.Logf("%d clients, %d honest MiB, budget peak %d of %d bytes", rounds.Load(), honest.Load()>>20, peak.Load(), budget.Limit())
	if peak.Load() > budget.Limit()+36*2*readBuffer {
		t.Error("memory went over the budget")
	}
	if budget.Used() != 0 {
		t.Errorf("%d bytes of the budget were never given back", budget.Used())
	}
	eventually(t, "descriptors are back", func() bool { return openFiles(t) <= fds })
	eventually(t, "goroutines are back", func() bool { return runtime.NumGoroutine() <= goroutines })
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 32<<20 {
		t.Errorf("%d bytes of heap are left", m.HeapAlloc)
	}
	if honest.Load() == 0 {
		t.Error("no honest client got through")
	}
}

func soakClient(t *testing.T, habit int, c *net.TCPConn, rng *rand.Rand, end time.Time, honest *atomic.Int64) {
	data := random(rng.Uint64(), 1+rng.IntN(256<<10))
	switch habit {
	case 0: // honest
		for range 10 {
			roundTrip(t, c, c, data)
			honest.Add(int64(len(data)))
		}
	case 1: // churn and reset
		_, _ = c.Write(data[:min(len(data), 1000)])
		_ = c.SetLinger(0)
	case 2: // half close, then read all
		go func() { _, _ = c.Write(data); _ = c.CloseWrite() }()
		if n, err := io.Copy(io.Discard, c); err != nil || n != int64(len(data)) {
			t.Errorf("after a half close: %d of %d bytes, %v", n, len(data), err)
		}
	case 3: // a byte now and then
		for range 20 {
			if _, err := c.Write(data[:1]); err != nil || time.Now().After(end) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	case 4: // deaf: sends until it blocks, never reads
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		for range 1000 {
			if _, err := c.Write(data); err != nil {
				return
			}
		}
	case 5: // idle until the loop closes it
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, _ = c.Read(make([]byte, 1))
	}
}

func openFiles(t *testing.T) int {
	d, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(d)
}
