package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestEchoWorkers passes 9 connections to 3 workers: 3 each, also after one was killed, and every byte comes back.
func TestEchoWorkers(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ndferry", "echo", "--listen", "127.0.0.1:0", "--workers", "3", "--greet")
	log := &sharedBuffer{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(strings.TrimSpace(line), "listening on tcp://")
	spread(t, addr, log)
	pids := children(t, cmd.Process.Pid)
	if len(pids) != 3 {
		t.Fatalf("workers %v", pids)
	}
	syscall.Kill(pids[0], syscall.SIGKILL)
	for now := pids; len(now) != 3 || slices.Contains(now, pids[0]); now = children(t, cmd.Process.Pid) {
		time.Sleep(2 * time.Millisecond)
	}
	// The new worker may not be ready yet: then its share goes to the others.
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if by := places(t, addr); len(by) == 3 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%v", by)
		}
	}
	spread(t, addr, log)
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
}

// spread makes nine connections, of which three come to each worker, again when one was held up for so long that its share went to others.
func spread(t *testing.T, addr string, log *sharedBuffer) {
	t.Helper()
	for range 10 {
		stalls := strings.Count(log.String(), "a worker does not answer")
		by := places(t, addr)
		uneven := len(by) != 3
		for _, n := range by {
			uneven = uneven || n != 3
		}
		if !uneven {
			return
		}
		if strings.Count(log.String(), "a worker does not answer") == stalls {
			t.Fatalf("nine connections came to %v", by)
		}
	}
	t.Error("workers were held up ten times")
}

// places makes nine connections at once, checks what they echo, and counts who greeted.
func places(t *testing.T, addr string) map[string]int {
	t.Helper()
	by := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 9 {
		all.Go(func() {
			who, err := echoed(addr, uint64(i))
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
			mu.Lock()
			by[who]++
			mu.Unlock()
		})
	}
	all.Wait()
	return by
}

func echoed(addr string, seed uint64) (who string, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	data := make([]byte, 100_000)
	rng := rand.New(rand.NewPCG(1, seed))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	go func() {
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
	}()
	all, err := io.ReadAll(c)
	if err != nil {
		return "", err
	}
	who, rest, _ := strings.Cut(string(all), "\n")
	if !strings.HasPrefix(who, "worker ") || rest != string(data) {
		return "", fmt.Errorf("%q and %d bytes", who, len(rest))
	}
	return who, nil
}

// children returns the processes that a process started.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, n)
		}
	}
	return pids
}
