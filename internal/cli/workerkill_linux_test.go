package cli

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/worker"
)

// TestWorkersKilled kills workers while clients put and get: with retries every transfer ends well, and what comes back is what was put.
func TestWorkersKilled(t *testing.T) {
	for _, driver := range []string{worker.GoroutineDriver, worker.LoopDriver} {
		t.Run(driver, func(t *testing.T) {
			const kills = 5
			s := serveDir(t, "--workers", "3", "--driver", driver)
			stop := make(chan struct{})
			var clients sync.WaitGroup
			var mu sync.Mutex
			rounds := 0
			for i := range 3 {
				c := s.dial()
				clients.Go(func() {
					rng := rand.New(rand.NewPCG(1, uint64(i)))
					for k := 0; ; k++ {
						select {
						case <-stop:
							return
						default:
						}
						if err := roundTrip(t, c, rng, fmt.Sprintf("c%d/%d", i, k%4)); err != nil {
							t.Errorf("client %d, round %d: %v", i, k, err)
							return
						}
						mu.Lock()
						rounds++
						mu.Unlock()
					}
				})
			}
			rng := rand.New(rand.NewPCG(2, 2))
			for k := range kills {
				w := s.await("a worker to kill", func(st serverStatus) bool { return st.Workers[k%3].State == "ready" }).Workers[k%3]
				time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond) // a random moment
				syscall.Kill(w.PID, syscall.SIGKILL)
				s.await("its place to be taken", func(st serverStatus) bool { return st.Workers[k%3].Generation > w.Generation })
			}
			close(stop)
			clients.Wait()
			st := s.await("all to be ready", func(st serverStatus) bool {
				return st.Workers[0].State == "ready" && st.Workers[1].State == "ready" && st.Workers[2].State == "ready"
			})
			restarts := st.Workers[0].Restarts + st.Workers[1].Restarts + st.Workers[2].Restarts
			if restarts != kills || rounds == 0 {
				t.Errorf("%d restarts for %d kills, %d rounds", restarts, kills, rounds)
			}
			c := s.dial()
			list, err := c.List(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				if _, err := c.Verify(t.Context(), e.Name, nil); err != nil {
					t.Errorf("%s: %v", e.Name, err)
				}
			}
			t.Logf("%d kills, %d puts with their gets, %d connections cut, %d redispatched, %d passed on, %d arrays", kills, rounds, st.Cut, st.Redispatched, st.Returned, len(list))
		})
	}
}

func roundTrip(t *testing.T, c *client.Client, rng *rand.Rand, name string) error {
	a := client.Array{Shape: array.Shape{300_000 + rng.IntN(500_000)}}
	a.DType, _ = array.ParseDType("|u1")
	a.Data = make([]byte, a.Shape[0])
	for i := range a.Data {
		a.Data[i] = byte(rng.Uint32())
	}
	if _, err := c.Put(t.Context(), name, a, client.PutOptions{ChunkBytes: 64 << 10, Codec: "none", Retries: 40}); err != nil {
		return err
	}
	got, err := c.Get(t.Context(), name, client.GetOptions{Retries: 40})
	if err == nil && !bytes.Equal(got.Data, a.Data) {
		err = fmt.Errorf("%s: other bytes", name)
	}
	return err
}

// await waits until the status is as it should be.
func (s *served) await(what string, ok func(serverStatus) bool) serverStatus {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if st := s.status(); ok(st) {
			return st
		} else if time.Now().After(end) {
			s.t.Fatalf("waited for %s: %+v", what, st)
		}
	}
}

// TestWorkerFiles looks at what workers are started with: one channel and one table of words, each its own, and no listener.
func TestWorkerFiles(t *testing.T) {
	s := serveDir(t, "--workers", "3")
	seen := map[string]bool{}
	for _, w := range s.status().Workers {
		sockets, words := 0, 0
		list, err := filepath.Glob("/proc/" + strconv.Itoa(w.PID) + "/fd/*")
		if err != nil || len(list) < 5 {
			t.Fatalf("%v, %v", list, err)
		}
		for _, p := range list {
			info, err := os.Stat(p)
			name, _ := os.Readlink(p)
			if err != nil {
				continue
			}
			switch {
			case strings.HasPrefix(name, "socket:"):
				sockets++
			case strings.HasPrefix(name, "/memfd:ndferry-words"):
				words++
				name += fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino)
			default:
				continue
			}
			if seen[name] {
				t.Errorf("worker %d has %s, and so has another one", w.Worker, name)
			}
			seen[name] = true
		}
		if sockets != 1 || words != 1 {
			t.Errorf("worker %d has %d sockets and %d tables: %v", w.Worker, sockets, words, list)
		}
	}
}
