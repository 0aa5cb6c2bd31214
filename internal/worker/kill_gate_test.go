//go:build gate && linux

package worker

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
)

var (
	killRounds = flag.Int("kill-rounds", 12, "rounds of TestGateKills")
	killSeed   = flag.Uint64("kill-seed", 1, "seed of TestGateKills")
)

// TestGateKills kills the server process, and processes of clients, at random moments of transfers. Puts with retries
// succeed, a command that is run again succeeds, and everything that was acknowledged is there.
func TestGateKills(t *testing.T) {
	k := newKiller(t, *killSeed)
	k.start()
	defer func() { k.stop() }()
	servers, clients, puts := 0, 0, 0
	for round := range *killRounds {
		n := []int{1, 16}[round%2]
		servers += k.serverRound(round, n)
		puts += n
	}
	for round := range *killRounds {
		clients += k.clientRound(round)
		puts++
	}
	if servers < *killRounds || clients < *killRounds/2 {
		t.Errorf("%d kills of the server and %d of clients found something under way", servers, clients)
	}
	if !t.Failed() {
		t.Logf("kills: tried=%d reached=%d injected=%d failed=0 seed=%d (%d of the server, %d of clients, %d puts)",
			servers+clients, servers+clients, servers+clients, *killSeed, servers, clients, puts)
	}
}

// killer runs the program as a server, and kills it.
type killer struct {
	t                          *testing.T
	tmp, binary, store, socket string
	args                       []string // of serve, besides store and socket
	rng                        *rand.Rand
	server                     *exec.Cmd
	left                       []int // process groups of masters that were killed alone
}

func newKiller(t *testing.T, seed uint64) *killer {
	t.Helper()
	tmp := t.TempDir()
	binary := filepath.Join(tmp, "ndferry")
	if out, err := exec.Command("go", "build", "-o", binary, "ndferry/cmd/ndferry").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return &killer{t: t, tmp: tmp, binary: binary, store: filepath.Join(tmp, "store"), socket: filepath.Join(tmp, "s"), rng: rand.New(rand.NewPCG(seed, 0))}
}

func (k *killer) start() {
	k.t.Helper()
	os.Remove(k.socket)
	k.server = exec.Command(k.binary, append([]string{"serve", "--store", k.store, "--listen", "unix://" + k.socket, "--control", "none"}, k.args...)...)
	k.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it is killed with its workers
	if err := k.server.Start(); err != nil {
		k.t.Fatal(err)
	}
	if out, err := exec.Command(k.binary, "ping", "--wait", "20s", "--addr", "unix://"+k.socket).CombinedOutput(); err != nil {
		k.t.Fatalf("ping: %v: %s", err, out)
	}
}

func (k *killer) stop() {
	for _, group := range append(k.left, k.server.Process.Pid) {
		syscall.Kill(-group, syscall.SIGKILL)
	}
	k.server.Wait()
	k.left = nil
}

// stopMaster kills the master alone. Its workers finish what they have, beside those of the next one.
func (k *killer) stopMaster() {
	k.server.Process.Kill()
	k.server.Wait()
	k.left = append(k.left, k.server.Process.Pid)
}

// stopWorker kills one worker, and tells whether there was one.
func (k *killer) stopWorker() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", k.server.Process.Pid))
	if err != nil {
		k.t.Fatal(err)
	}
	var workers []string
	for _, thread := range threads {
		if text, err := os.ReadFile(thread); err == nil { // the thread may be gone
			workers = append(workers, strings.Fields(string(text))...)
		}
	}
	if len(workers) == 0 {
		return false
	}
	pid, err := strconv.Atoi(workers[k.rng.IntN(len(workers))])
	if err != nil {
		k.t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	return true
}

func (k *killer) data(size int) client.Array {
	a := client.Array{Shape: array.Shape{size}, Data: make([]byte, size)}
	a.DType, _ = array.ParseDType("|u1")
	rand.NewChaCha8([32]byte{byte(k.rng.Uint32()), byte(k.rng.Uint32()), byte(k.rng.Uint32())}).Read(a.Data)
	return a
}

// serverRound runs n puts and kills the server until all have succeeded. It returns the number of kills.
func (k *killer) serverRound(round, n int) (kills int) {
	arrays := make([]client.Array, n)
	var puts sync.WaitGroup
	for i := range arrays {
		arrays[i] = k.data((48 << 20) / n)
		c := dial(k.t, "unix://"+k.socket)
		puts.Go(func() {
			opts := client.PutOptions{ChunkBytes: 256 << 10, Digest: client.SHA256, Retries: 30}
			if _, err := c.Put(context.Background(), fmt.Sprintf("s%d/%d", round, i), arrays[i], opts); err != nil {
				k.t.Errorf("round %d, put %d: %v", round, i, err)
			}
		})
	}
	done := make(chan struct{})
	go func() { puts.Wait(); close(done) }()
	for most := 3; ; {
		wait := time.Duration(1+k.rng.IntN(60)) * time.Millisecond // a random moment
		if most == kills {
			wait = time.Hour
		}
		select {
		case <-done:
			k.compare(fmt.Sprintf("s%d", round), arrays)
			return kills
		case <-time.After(wait):
			k.stop()
			kills++
			k.start()
		}
	}
}

func (k *killer) compare(group string, arrays []client.Array) {
	k.t.Helper()
	c := dial(k.t, "unix://"+k.socket)
	for i, want := range arrays {
		name := fmt.Sprintf("%s/%d", group, i)
		got, err := c.Get(k.t.Context(), name, client.GetOptions{})
		if err != nil || !bytes.Equal(got.Data, want.Data) {
			k.t.Errorf("%s: other bytes, or error %v", name, err)
		}
		if err := c.Delete(k.t.Context(), name); err != nil {
			k.t.Error(err)
		}
	}
}

// clientRound kills ndferry put at a random moment, and runs it again. It returns 1 when the first one did not end by itself.
func (k *killer) clientRound(round int) (kills int) {
	a := k.data(64 << 20)
	file := filepath.Join(k.tmp, fmt.Sprintf("k%d.npy", round))
	if err := os.WriteFile(file, append(array.AppendNPYHeader(nil, a.DType, a.Shape, false), a.Data...), 0o666); err != nil {
		k.t.Fatal(err)
	}
	defer os.Remove(file)
	command := func() *exec.Cmd {
		cmd := exec.Command(k.binary, "put", file, fmt.Sprintf("c%d/0", round), "--digest", "sha256", "--chunk", "256KiB", "--addr", "unix://"+k.socket)
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(k.tmp, "state"))
		return cmd
	}
	first := command()
	if err := first.Start(); err != nil {
		k.t.Fatal(err)
	}
	time.Sleep(time.Duration(k.rng.IntN(100)) * time.Millisecond) // a random moment
	first.Process.Kill()
	if first.Wait() != nil {
		kills = 1
	}
	if out, err := command().CombinedOutput(); err != nil {
		k.t.Errorf("round %d: the command again: %v: %s", round, err, out)
	}
	k.compare(fmt.Sprintf("c%d", round), []client.Array{a})
	return kills
}
