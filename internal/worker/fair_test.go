package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store"
	"ndferry/store/dir"
)

// throttled is a store that writes one cell at a time, slowly, and counts them by array. It begins to when all have asked for it.
type throttled struct {
	store.Store
	delay time.Duration
	begun sync.WaitGroup
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
		s.begun.Done()
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
	u.s.begun.Wait()
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

// What mk/server.mk changes: in the gate 64 clients send 768 KiB each.
var (
	storeRate    = flag.Int("store-rate", 80e6, "bytes that the slow store of TestGateFairness takes in a second")
	storeClients = flag.Int("store-clients", 64, "clients that send to it")
	storeCells   = flag.Int("store-cells", 48, "cells that each of them sends")
	storeCell    = flag.Int("store-cell", 16<<10, "bytes of a cell")
	storeWait    = flag.Duration("store-wait", 2*time.Minute, "how long a client waits for progress")
)

// slowServer is what the process with the slow store is told, and what it answers at its end.
type slowServer struct {
	Driver, Dir      string
	Rate             int   // bytes in a second
	Memory           int64 // Config's
	Clients          int
	Cells, Cell      int // of each, and their bytes
	Base, End        map[string]int
	Pool             int64 // most bytes of cells on their way
	IdleRSS, PeakRSS int64 // bytes
}

var _ = addRole("NDFERRY_TEST_SLOW", func(text string) {
	var s slowServer
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = s.serve()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
})

// serve serves until the input ends.
func (s *slowServer) serve() error {
	d, err := dir.Open(filepath.Join(s.Dir, "store"), dir.Config{})
	if err != nil {
		return err
	}
	st := &throttled{Store: d, delay: time.Duration(s.Cell) * time.Second / time.Duration(s.Rate), clients: s.Clients, full: s.Cells, cells: map[string]int{}}
	st.begun.Add(s.Clients)
	srv := New(st, Config{Driver: s.Driver, Memory: s.Memory, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	ln, err := net.Listen("unix", filepath.Join(s.Dir, "s"))
	if err != nil {
		return err
	}
	s.IdleRSS = peakRSS()
	go srv.Serve(ln)
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := srv.Shutdown(context.Background()); err != nil {
		return err
	}
	_, s.Pool = srv.pool.Used()
	s.PeakRSS = peakRSS()
	s.Base, s.End = st.base, st.end
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return err
	}
	return st.Close()
}

// peakRSS is how much memory this process had at most.
func peakRSS() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// TestGateFairness has 64 clients send to a slow store, with less memory than they would like: they get equal shares of it. The server is a
// process of its own, whose memory is known.
func TestGateFairness(t *testing.T) { eachDriver(t, fairness) }

func fairness(t *testing.T, driver string) {
	s := slowServer{Driver: driver, Dir: t.TempDir(), Rate: *storeRate, Cell: *storeCell, Clients: *storeClients, Cells: *storeCells}
	s.Memory = int64(s.Clients * s.Cell * 2)
	text, err := json.Marshal(&s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NDFERRY_TEST_SLOW="+string(text))
	cmd.Stderr = testLog{t}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	if line, err := out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the server says %q: %v", line, err)
	}
	begin := time.Now()
	sendAll(t, "unix://"+filepath.Join(s.Dir, "s"), &s)
	took := time.Since(begin).Seconds()
	stdin.Close()
	err = json.NewDecoder(out).Decode(&s)
	if e := cmd.Wait(); e != nil || err != nil {
		t.Fatalf("the server: %v, %v", e, err)
	}
	if s.Base == nil || s.End == nil {
		t.Fatal("one client was done before all had begun")
	}
	var sum, squares float64
	for name, n := range s.End {
		n -= s.Base[name]
		sum += float64(n)
		squares += float64(n * n)
	}
	jain := sum * sum / (float64(s.Clients) * squares)
	t.Logf("%d clients, %d cells of %d bytes each, in %.1f s: fairness %.3f from when all had begun to when the first had ended; %d bytes of %d were taken, "+
		"memory at most %d KiB, %d KiB before", s.Clients, s.Cells, s.Cell, took, jain, s.Pool, s.Memory, s.PeakRSS>>10, s.IdleRSS>>10)
	if driver == LoopDriver && jain < 0.95 { // goroutines have no order
		t.Errorf("fairness %.3f", jain)
	}
	if s.Pool > s.Memory+int64(s.Cell) {
		t.Errorf("%d bytes were taken of %d", s.Pool, s.Memory)
	}
}

// sendAll has all clients store their array, at the same time.
func sendAll(t *testing.T, addr string, s *slowServer) {
	var wg sync.WaitGroup
	defer wg.Wait()
	n := s.Cells * s.Cell
	var clients []*client.Client
	for range s.Clients {
		c, err := client.Dial(context.Background(), addr, client.Config{Timeout: *storeWait})
		if err != nil {
			t.Error(err)
			return
		}
		clients = append(clients, c)
	}
	for i, c := range clients {
		wg.Go(func() {
			defer c.Close()
			a := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{n}, Data: varied(n)}
			if _, err := c.Put(context.Background(), fmt.Sprint(i), a, client.PutOptions{Cell: array.Shape{s.Cell}}); err != nil {
				t.Error(err)
			}
		})
	}
}
