//go:build gate && linux

package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ndferry/client"
	"ndferry/internal/session"
	"ndferry/store/dir"
)

var (
	matrixSeeds = flag.Int("matrix-seeds", 1, "how often TestGateKillMatrix dies at each step")
	matrixSeed  = flag.Int("matrix-seed", 1, "the first of them")
	matrixSides = flag.String("matrix-sides", "server,client,master,worker", "whose steps they are")
	matrixMany  = flag.Int("matrix-transfers", 4, "transfers at once, in turns with one")
)

// step is a named step and whether it is in the seam of the network, which the loop has none of.
type step struct {
	name    string
	network bool
}

// The steps at which processes die. The names begin as those of the table in docs/benchmarks/faults.md.
var (
	serverSteps = []step{
		{"W2 accepted", true}, {"W3 header valid", false}, {"W4 allocated", false}, {"W5 cell half written", false}, {"W6 before fdatasync", false},
		{"W7 before the journal", false}, {"W8 journal synced", false}, {"W9 progress sent", true}, {"W10 all cells in", true}, {"W11 digest checked", false},
		{"W12 final fdatasync", false}, {"W13 intent synced", false}, {"W13 before the rename", false}, {"W13 renamed", false}, {"W14 directory synced", false},
		{"W15 receipt queued", true}, {"W16 receipt half written", true}, {"W17 before the old one goes", false},
	}
	clientSteps = []step{
		{"C1 connected", true}, {"C2 HELLO sent", true}, {"C3 PUT sent", true}, {"C4 first cell sent", true}, {"C5 inside a cell", true}, {"C6 between cells", true},
		{"C7 last cell sent", true}, {"C8 FINISH sent", true}, {"C9 receipt read, not noted", true},
	}
)

// TestGateKillMatrix kills the server, and clients, at every named step of a put: asking again always succeeds, and sends little twice.
func TestGateKillMatrix(t *testing.T) {
	m := &matrix{t: t}
	begin := time.Now()
	for _, side := range strings.Split(*matrixSides, ",") {
		steps := map[string][]step{"server": serverSteps, "client": clientSteps, "master": masterSteps, "worker": workerSteps()}[side]
		kills, stored, sent := 0, 0.0, 0.0
		for _, s := range steps {
			for seed := *matrixSeed; seed < *matrixSeed+*matrixSeeds; seed++ {
				for _, n := range []int{1, *matrixMany} {
					a, b := m.kill(side, s, seed, n)
					stored, sent = max(stored, a), max(sent, b)
					if kills++; t.Failed() {
						t.Fatalf("%s, seed %d, %d transfers", s.name, seed, n)
					}
				}
			}
		}
		t.Logf("matrix %s: tried=%d reached=%d injected=%d failed=0 seed=%d (%d steps; of a checkpoint a connection: stored again at most %.2f, sent again %.2f, %v)",
			side, kills, kills, kills, *matrixSeed, len(steps), stored, sent, time.Since(begin).Round(time.Second))
	}
}

// TestGateSentAgain kills the server under a put of real size, where a checkpoint is what it is by default: a client sends at most that much
// again. In the matrix above the credit of a connection is many of its checkpoints.
func TestGateSentAgain(t *testing.T) {
	defer realSteps()()
	m := &matrix{t: t, real: true}
	most, kills := 0.0, 0
	for i, k := range []struct {
		step string
		nth  int64
	}{{"W6 before fdatasync", 1}, {"W6 before fdatasync", 3}, {"W8 journal synced", 3}, {"W5 cell half written", 23}, {"W7 before the journal", 4}} {
		m.round++
		_, sent := m.killAt("server", drivers[i%2], k.step, k.nth, 1, false)
		if most = max(most, sent); sent > 1.001 {
			t.Errorf("%s, time %d: %.3f checkpoints were sent again", k.step, k.nth, sent)
		}
		kills++
	}
	t.Logf("matrix sent again: tried=%d reached=%d injected=%d failed=0 seed=0 (at most %.2f of a checkpoint of 64 MiB)", kills, kills, kills, most)
}

type matrix struct {
	real  bool
	t     *testing.T
	round uint64
	names []string
	tmp   string
	store string
	wrote atomic.Int64 // cells that were written to shards
}

// kill runs n puts, of which one meets a process that dies at a step, and returns how much was written to the store again, and sent again, in
// checkpoints a connection. What was sent and not written was under way: the sockets hold it, and the server's memory, as much as there is credit.
func (m *matrix) kill(side string, s step, seed, n int) (stored, sent float64) {
	m.round++
	driver := GoroutineDriver
	if !s.network && seed%2 == 1 {
		driver = LoopDriver
	}
	nth := m.nth(s.name, seed, n)
	if side == "worker" { // it has half of the connections
		nth = m.nth(s.name, seed, max(1, n/2))
	}
	return m.killAt(side, driver, s.name, nth, n, s.name[:3] == "W17" || seed%2 == 0)
}

// killAt is kill at the nth time that a step comes; filled: other arrays are in the places of those that are put.
func (m *matrix) killAt(side, driver, step string, nth int64, n int, filled bool) (stored, sent float64) {
	m.tmp = m.t.TempDir()
	m.store = quickStore(m.t)
	m.names = nil
	m.wrote.Store(0)
	for i := range n {
		m.names = append(m.names, fmt.Sprintf("m/%d", i))
	}
	if err := os.Mkdir(m.store, 0o777); err != nil {
		m.t.Fatal(err)
	}
	if filled {
		m.fill()
	}
	order := stepOrder{
		Role: side, Step: step, Nth: nth, Socket: filepath.Join(m.tmp, "s"), Store: m.store,
		Driver: driver, Names: m.names, Round: m.round, Real: m.real,
	}
	cut := newCutter(m.t, order.Socket, 0, 0, 1)
	switch side {
	case "server":
		m.killServer(order, cut)
	case "client":
		m.killClient(order, cut)
	default:
		order.Role = "master"
		m.killProcesses(order, cut)
	}
	m.compare(order)
	again := (int(m.wrote.Load()) - n*stepCells) * stepCell
	if again < 0 || again > n*stepCheckpoint {
		m.t.Errorf("%d bytes of %d connections stored again, at most %d are allowed", again, n, n*stepCheckpoint)
	}
	most := float64(n * stepCheckpoint)
	return float64(again) / most, float64(cut.up.Load()-int64(n*stepCell*stepCells)) / most
}

// nth chooses which time the step counts: what comes once a transfer, by transfer; what comes often, anywhere.
func (m *matrix) nth(step string, seed, n int) int64 {
	often := map[string]int{
		"W5 cell half written": stepCells * n, "W6 before fdatasync": 2 * n, "W7 before the journal": 3 * n, "W8 journal synced": 3 * n, "W9 progress sent": 1,
		"C5 inside a cell": stepCells / 2, "C6 between cells": stepCells - 1,
	}
	if k := often[step]; k > 0 {
		return int64(1 + seed*7919%k)
	}
	if s := step[:2]; s == "M3" || s == "M4" || s == "M5" {
		return 1 // a frame passes many connections
	}
	return int64(1 + seed%n)
}

// fill puts other arrays where those of the round go.
func (m *matrix) fill() {
	m.with(func(c *client.Client) {
		for n, name := range m.names {
			if _, err := c.Put(m.t.Context(), name, stepArray(1_000_000+m.round, n), client.PutOptions{}); err != nil {
				m.t.Fatal(err)
			}
		}
	})
}

// with opens the store in this process.
func (m *matrix) with(f func(c *client.Client)) {
	m.t.Helper()
	st, err := dir.Open(m.store, dir.Config{})
	if err != nil {
		m.t.Fatal(err)
	}
	srv := New(st, Config{})
	near, far := net.Pipe()
	srv.ServeConn(far)
	c, err := client.New(m.t.Context(), near, client.Config{})
	if err != nil {
		m.t.Fatal(err)
	}
	f(c)
	c.Close()
	if err := srv.Shutdown(m.t.Context()); err != nil {
		m.t.Error(err)
	}
	if err := st.Close(); err != nil {
		m.t.Error(err)
	}
}

// run starts this test binary as what the order says; the process dies with us.
func (m *matrix) run(order stepOrder) (*exec.Cmd, io.Reader, *bytes.Buffer) {
	m.t.Helper()
	text, err := json.Marshal(order)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stepEnv+"="+string(text), "GORACE=atexit_sleep_ms=0") // a race detector waits a second at the end
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	errs := new(bytes.Buffer)
	cmd.Stderr = errs
	if order.Role == "master" { // it is killed with its workers, whose words about errors nobody waits for
		cmd.SysProcAttr.Setpgid = true
		cmd.Stderr = os.Stderr
	}
	out, in, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd.Stdout = in
	err = cmd.Start()
	in.Close()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { out.Close() })
	return cmd, out, errs
}

// server starts a server and waits until it listens.
func (m *matrix) server(order stepOrder) (cmd *exec.Cmd, drained chan struct{}) {
	m.t.Helper()
	os.Remove(order.Socket)
	cmd, out, errs := m.run(order)
	in := bufio.NewReader(out)
	line, err := in.ReadString('\n')
	word := strings.TrimLeft(line, "w") // workers may be writing before their master has said so
	m.wrote.Add(int64(len(line) - len(word)))
	if word != "ready\n" {
		cmd.Process.Kill()
		cmd.Wait()
		m.t.Fatalf("the server says %q, %v: %s", line, err, errs)
	}
	drained = make(chan struct{})
	go func() {
		defer close(drained)
		for {
			if _, err := in.ReadByte(); err != nil {
				return
			}
			m.wrote.Add(1)
		}
	}()
	return cmd, drained
}

// killed waits for a process that must die at its step.
func (m *matrix) killed(cmd *exec.Cmd, errs fmt.Stringer) {
	m.t.Helper()
	err := cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		m.t.Errorf("the process did not come to its step: %v %s", err, errs)
	}
}

func (m *matrix) killServer(order stepOrder, cut *cutter) {
	first, drained := m.server(order)
	ended := m.puts(order, cut)
	died := make(chan struct{})
	go func() { <-drained; m.killed(first, new(bytes.Buffer)); close(died) }()
	select {
	case <-died:
	case <-ended:
		select {
		case <-died: // with its last words
		case <-time.After(patience):
			m.t.Errorf("%s, time %d: not reached", order.Step, order.Nth)
			first.Process.Kill()
			<-died
			return
		}
	}
	order.Step = ""
	second, drained := m.server(order)
	<-ended
	second.Process.Kill()
	<-drained
	second.Wait()
}

// puts begins all puts, through cut, which must succeed however often they are asked again.
func (m *matrix) puts(order stepOrder, cut *cutter) (ended chan struct{}) {
	var puts sync.WaitGroup
	for n, name := range m.names {
		puts.Go(func() {
			opts := stepOptions(order.Round, n)
			opts.Retries = 30
			c, err := client.Dial(context.Background(), cut.addr(), client.Config{Timeout: patience})
			for end := time.Now().Add(patience); err != nil && time.Now().Before(end); { // it died when the first one connected
				time.Sleep(time.Millisecond)
				c, err = client.Dial(context.Background(), cut.addr(), client.Config{Timeout: patience})
			}
			if err == nil {
				defer c.Close()
				_, err = c.Put(context.Background(), name, stepArray(order.Round, n), opts)
			}
			if err != nil {
				m.t.Errorf("put %s: %v", name, err)
			}
		})
	}
	ended = make(chan struct{})
	go func() { puts.Wait(); close(ended) }()
	return ended
}

func (m *matrix) killClient(order stepOrder, cut *cutter) {
	real, err := dir.NewOS(m.store)
	if err != nil {
		m.t.Fatal(err)
	}
	st, err := dir.Open(m.store, dir.Config{FS: &stepFS{real, &dying{wrote: func() { m.wrote.Add(1) }}}})
	if err != nil {
		m.t.Fatal(err)
	}
	srv := New(st, Config{Driver: drivers[m.round%2], Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Session: session.Config{Checkpoint: stepCheckpoint}})
	ln, err := net.Listen("unix", order.Socket)
	if err != nil {
		m.t.Fatal(err)
	}
	go srv.Serve(ln)
	order.Socket = cut.ln.Addr().String()
	cmd, _, errs := m.run(order)
	m.killed(cmd, errs)
	order.Step = ""
	cmd, _, errs = m.run(order)
	if err := cmd.Wait(); err != nil {
		m.t.Errorf("asked again: %v %s", err, errs)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		m.t.Errorf("shutdown: %v", err)
	}
	if err := st.Close(); err != nil {
		m.t.Error(err)
	}
}

// compare checks what is there in the end.
func (m *matrix) compare(order stepOrder) {
	m.with(func(c *client.Client) {
		list, err := c.List(m.t.Context(), "")
		if err != nil {
			m.t.Fatal(err)
		}
		var names []string
		for _, e := range list {
			names = append(names, e.Name)
		}
		want := slices.Sorted(slices.Values(m.names))
		if !slices.Equal(names, want) {
			m.t.Errorf("listed %q, want %q", names, want)
		}
		for n, name := range m.names {
			got, err := c.Get(m.t.Context(), name, client.GetOptions{})
			if err != nil || !bytes.Equal(got.Data, stepArray(order.Round, n).Data) {
				m.t.Errorf("%s: other bytes, or error %v", name, err)
			}
			if r, err := c.Verify(m.t.Context(), name, nil); err != nil || r.BadCount > 0 {
				m.t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
	})
	for _, place := range []string{"uploads", "trash"} {
		if left, err := os.ReadDir(filepath.Join(m.store, "state", place)); err != nil || len(left) > 0 {
			m.t.Errorf("left in state/%s: %v, %v", place, left, err)
		}
	}
}
