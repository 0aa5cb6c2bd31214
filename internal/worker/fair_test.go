package worker

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store"
	"ndferry/store/mem"
)

// throttled is a store that writes one cell at a time, slowly, and counts them by array.
type throttled struct {
	store.Store
	delay time.Duration
	mu    sync.Mutex // held while a cell is written
	cells map[string]int
	base  map[string]int // cells when all clients had begun
	end   map[string]int // cells when the first had sent its last

	clients, full int
}

// Instant implements store.Store.
func (s *throttled) Instant() bool { return false }

// Begin implements store.Store.
func (s *throttled) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	u, r, err := s.Store.Begin(ctx, spec)
	if u != nil {
		u = &throttledUpload{u, s, spec.Name}
	}
	return u, r, err
}

// throttledUpload hides that the store could lend memory.
type throttledUpload struct {
	store.Upload
	s    *throttled
	name string
}

// Write implements store.Upload.
func (u *throttledUpload) Write(ctx context.Context, c store.Cell, data []byte) error {
	u.s.mu.Lock()
	time.Sleep(u.s.delay)
	u.s.cells[u.name]++
	if u.s.base == nil && len(u.s.cells) == u.s.clients {
		u.s.base = maps.Clone(u.s.cells)
	}
	if u.s.end == nil && u.s.cells[u.name] == u.s.full {
		u.s.end = maps.Clone(u.s.cells)
	}
	u.s.mu.Unlock()
	return u.Upload.Write(ctx, c, data)
}

var storeRate = flag.Int("store-rate", 80e6, "bytes that the slow store of TestGateFairness takes in a second")

// TestGateFairness has 64 clients send to a slow store, with less memory than they would like: they get equal shares of it.
func TestGateFairness(t *testing.T) { eachDriver(t, fairness) }

func fairness(t *testing.T, driver string) {
	const clients, cells, cell = 64, 48, 16 << 10
	st := &throttled{Store: mem.New(mem.Config{}), delay: cell * time.Second / time.Duration(*storeRate), clients: clients, full: cells, cells: map[string]int{}}
	srv, addr := serve(t, st, Config{Driver: driver, Memory: clients * cell * 2})
	var wg sync.WaitGroup
	for i := range clients {
		c, err := client.Dial(context.Background(), addr, client.Config{Timeout: 2 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		wg.Go(func() {
			a := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{cells * cell}, Data: varied(cells * cell)}
			if _, err := c.Put(context.Background(), fmt.Sprint(i), a, client.PutOptions{Cell: array.Shape{cell}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var sum, squares float64
	if st.base == nil || st.end == nil {
		t.Fatal("one client was done before all had begun")
	}
	for name, n := range st.end {
		n -= st.base[name]
		sum += float64(n)
		squares += float64(n * n)
	}
	jain := sum * sum / (clients * squares)
	_, peak := srv.pool.Used()
	t.Logf("fairness %.3f from when all of %d clients had begun to when the first had ended; %d bytes of %d were taken", jain, clients, peak, clients*cell*2)
	if driver == LoopDriver && jain < 0.9 { // goroutines have no order
		t.Errorf("fairness %.3f", jain)
	}
	if peak > clients*cell*2+cell {
		t.Errorf("%d bytes were taken of %d", peak, clients*cell*2)
	}
}
