//go:build linux && gate

package master

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestGateWorkerKills kills 1,000 workers, NDFERRY_KILLS for another number.
func TestGateWorkerKills(t *testing.T) {
	n := 1000
	if text := os.Getenv("NDFERRY_KILLS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	killing(t, n)
}

// TestGateMasterKills kills masters under clients that check every byte, and counts what that loses: the connections that no worker had touched,
// and those that came while nobody listened, which are told so at once. Nobody gets another byte than his own, or hangs.
func TestGateMasterKills(t *testing.T) {
	const kills = 25
	addr := "127.0.0.1:0"
	var cmd *exec.Cmd
	begin := func() {
		cmd = command("master")
		cmd.Env = append(cmd.Env, "MASTER_TEST_ADDR="+addr)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var pids [2]int
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		} else if _, err := fmt.Sscan(line, &addr, &pids[0], &pids[1]); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	r := &running{t: t, addr: addr}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var mu sync.Mutex
	answered, lost, refused := 0, 0, 0
	for i := range 4 {
		clients.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				_, err := r.ask(fmt.Sprintf("%d-%d", i, k))
				mu.Lock()
				switch {
				case err == nil:
					answered++
				case errors.Is(err, syscall.ECONNREFUSED):
					refused++
				case errors.Is(err, os.ErrDeadlineExceeded):
					t.Errorf("client %d hung", i)
				default:
					lost++
				}
				mu.Unlock()
			}
		})
	}
	for range kills {
		time.Sleep(20 * time.Millisecond) // of load
		cmd.Process.Kill()
		cmd.Wait()
		begin()
	}
	close(stop)
	clients.Wait()
	t.Logf("masters: tried=%d reached=%d injected=%d failed=0 seed=0 lost=%d refused=%d", answered+lost, answered, kills, lost, refused)
	if lost > kills*(4+1) { // each client has one connection at a time
		t.Errorf("%d connections lost in %d kills with 4 clients", lost, kills)
	}
}
