//go:build linux

package master

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ndferry/fdpass/fdtest"
)

// TestMaster_roundRobin gives nine connections to three workers: three each, also after one of them was killed.
func TestMaster_roundRobin(t *testing.T) {
	r := start(t, Config{Workers: 3})
	want := map[int]int{1: 3, 2: 3, 3: 3}
	if got := r.places(9); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	s := r.await("everything is closed", func(s Status) bool { return s.Connections == 0 })
	syscall.Kill(s.Workers[1].PID, syscall.SIGKILL)
	r.await("the killed worker is back", func(n Status) bool {
		return allReady(n) && n.Workers[1].PID != s.Workers[1].PID && n.Workers[1].Generation == 4 && n.Workers[1].Restarts == 1
	})
	if got := r.places(9); !maps.Equal(got, want) {
		t.Errorf("after a restart %v, want %v", got, want)
	}
	n := r.await("everything is answered", func(s Status) bool { return s.Connections == 0 && s.Workers[0].Taken == 6 })
	if n.Accepted != 18 || n.Offered != 18 || n.Cut != 0 || n.P50 <= 0 || n.P99 < n.P50 {
		t.Errorf("%+v", n)
	}
	closeOnExec(t)
}

// TestMaster_leastLoaded keeps connections open on one worker: new ones go to the other.
func TestMaster_leastLoaded(t *testing.T) {
	r := start(t, Config{Workers: 2, Dispatch: LeastLoaded})
	var open []net.Conn
	for range 6 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	at := map[int][]net.Conn{}
	for i, c := range open {
		a, err := r.talk(c, fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		at[a.place] = append(at[a.place], c)
	}
	if len(at[1]) != 3 || len(at[2]) != 3 {
		t.Errorf("%d and %d of 6", len(at[1]), len(at[2]))
	}
	for _, c := range at[2] {
		c.Close()
	}
	r.await("the closed connections are noticed", func(s Status) bool { return s.Workers[1].Load == 0 })
	for i := range 3 { // each is closed when it was answered, so the second worker always has fewest
		a, err := r.ask(fmt.Sprint("x", i))
		if err != nil || a.place != 2 {
			t.Errorf("worker %d, %v; want 2", a.place, err)
		}
		r.await("it is closed", func(s Status) bool { return s.Workers[1].Load == 0 })
	}
}

// TestMaster_steps lets a worker die, stop or fail at each of its steps. What it had not touched is answered by another one; no client
// is answered twice or hangs.
func TestMaster_steps(t *testing.T) {
	for _, c := range []struct {
		about string
		loses int // connections that may end without an answer
	}{
		{"kill W1", 0}, {"kill W1+", 0}, {"kill W2", 1},
		{"error W1", 0}, {"error W1+", 0}, {"error W2", 0},
		{"stop W1", 0},
	} {
		t.Run(c.about, func(t *testing.T) {
			cfg := Config{Workers: 2, Start: func(index int, gen uint32) []byte {
				if gen == 1 {
					return []byte(c.about)
				}
				return nil
			}}
			if strings.HasPrefix(c.about, "stop") {
				cfg.Take = 200 * time.Millisecond
			}
			r := start(t, cfg)
			first := r.Status()
			var clients sync.WaitGroup
			var mu sync.Mutex
			lost := 0
			for i := range 20 {
				clients.Go(func() {
					if _, err := r.ask(fmt.Sprint("c", i)); err != nil {
						mu.Lock()
						lost++
						mu.Unlock()
					}
				})
			}
			clients.Wait()
			if lost > c.loses {
				t.Errorf("%d connections ended without an answer, at most %d may", lost, c.loses)
			}
			if strings.HasPrefix(c.about, "stop") {
				s := r.await("what it had not taken is revoked", func(s Status) bool { return s.Revoked > 0 })
				for _, w := range s.Workers {
					if w.Revoked > 0 {
						syscall.Kill(w.PID, syscall.SIGCONT)
					}
				}
			}
			s := r.await("both serve again", func(s Status) bool { return allReady(s) && s.Connections == 0 })
			if strings.HasPrefix(c.about, "kill") && s.Workers[0].PID == first.Workers[0].PID && s.Workers[1].PID == first.Workers[1].PID {
				t.Error("nobody died")
			}
			if strings.HasPrefix(c.about, "error") && s.Refused == 0 && c.about != "error W2" {
				t.Error("nothing was refused")
			}
			r.allServe(2)
		})
	}
}

// TestMaster_stopped stops a worker that has connections: they wait for it, new ones go elsewhere; when it wakes up it touches none of them.
func TestMaster_stopped(t *testing.T) {
	r := start(t, Config{Workers: 2, Take: 100 * time.Millisecond})
	held := map[int]net.Conn{}
	for i := 0; len(held) < 2; i++ { // one that is held up for as long as Take may not have the first
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a, err := r.talk(c, fmt.Sprint("hold", i))
		if err != nil {
			t.Fatal(err)
		}
		held[a.place] = c
	}
	s := r.await("nothing is open", func(s Status) bool { return allReady(s) && s.Workers[0].Taken > 0 && s.Workers[1].Taken > 0 })
	before := s.Workers[0].Taken
	if err := fdtest.Stop(s.Workers[0].PID); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(s.Workers[0].PID, syscall.SIGCONT)
	var clients sync.WaitGroup
	for i := range 10 {
		clients.Go(func() {
			if a, err := r.ask(fmt.Sprint("while", i)); err != nil || a.place != 2 {
				t.Errorf("client %d: worker %d, %v", i, a.place, err)
			}
		})
	}
	clients.Wait()
	s = r.await("it counts as stalled", func(s Status) bool { return s.Workers[0].State == "stalled" })
	if s.Revoked == 0 || s.Cut != 0 {
		t.Errorf("%+v", s)
	}
	syscall.Kill(s.Workers[0].PID, syscall.SIGCONT)
	s = r.await("it serves again", allReady)
	if s.Workers[0].Taken != before {
		t.Errorf("it touched %d connections that were revoked", s.Workers[0].Taken-before)
	}
	if a, err := r.talk(held[1], "again"); err != nil || a.place != 1 {
		t.Errorf("the connection that it had: %v, %v", a, err)
	}
	r.allServe(2)
}

// TestMaster_startFails has a worker that cannot start: the other one serves, and the log is loud. When none can start, Run says why.
func TestMaster_startFails(t *testing.T) {
	for _, how := range []string{"fail", "crash"} {
		t.Run(how, func(t *testing.T) {
			broken := func(index int, gen uint32) []byte {
				if index == 1 && gen < 6 {
					return []byte(how)
				}
				return nil
			}
			r := start(t, Config{Workers: 2, Backoff: Backoff{Min: 2 * time.Millisecond, Max: 8 * time.Millisecond}, Start: broken})
			if got := r.places(2); !maps.Equal(got, map[int]int{2: 2}) && len(got) != 2 {
				t.Errorf("%v", got)
			}
			s := r.await("the broken worker serves at last", allReady)
			if s.Workers[0].Restarts < 4 {
				t.Errorf("%d restarts", s.Workers[0].Restarts)
			}
			log := r.log.String()
			if !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "again_in=8ms") || how == "fail" && !strings.Contains(log, "the test's wish") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
	t.Run("all", func(t *testing.T) {
		r := run(t, Config{Workers: 2, Start: func(int, uint32) []byte { return []byte("fail") }})
		var why *StartError
		if err := <-r.done; !errors.As(err, &why) || why.Code != 42 || why.Text != "it is the test's wish" {
			t.Errorf("%v", err)
		}
	})
}

// TestMaster_stop ends in order: what is in flight is finished, and a worker that does not end is killed.
func TestMaster_stop(t *testing.T) {
	t.Run("in order", func(t *testing.T) {
		r := start(t, Config{Workers: 2, Start: func(int, uint32) []byte { return []byte("slow 200ms") }})
		answered := make(chan error, 1)
		go func() {
			_, err := r.ask("last")
			answered <- err
		}()
		r.await("it is served", func(s Status) bool { return s.Workers[0].Connections+s.Workers[1].Connections == 1 })
		r.stop()
		if err := <-answered; err != nil {
			t.Errorf("what was in flight: %v", err)
		}
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		if strings.Contains(r.log.String(), "killed") {
			t.Errorf("log:\n%s", r.log)
		}
		if c, err := net.Dial("tcp", r.addr); err == nil {
			c.Close()
			t.Error("something listens still")
		}
	})
	t.Run("deaf", func(t *testing.T) {
		r := start(t, Config{Workers: 1, Drain: time.Millisecond, Start: func(int, uint32) []byte { return []byte("deaf") }})
		pid := r.Status().Workers[0].PID
		r.stop()
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		if err := syscall.Kill(pid, 0); err == nil {
			t.Error("the worker lives")
		}
	})
}

// TestMaster_dies kills a master: its workers end, and since they hold no listener another master starts at once.
func TestMaster_dies(t *testing.T) {
	addr := "127.0.0.1:0"
	for range 3 {
		cmd := command("master")
		cmd.Env = append(cmd.Env, "MASTER_TEST_ADDR="+addr)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		var pids [2]int
		if _, scan := fmt.Sscan(line, &addr, &pids[0], &pids[1]); err != nil || scan != nil {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("%q, %v, %v", line, err, scan)
		}
		for _, pid := range pids {
			checkNoListener(t, pid)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		r := &running{t: t}
		if _, err := r.talk(c, "before"); err != nil {
			t.Error(err)
		}
		cmd.Process.Kill()
		cmd.Wait()
		if _, err := r.talk(c, "after"); err != nil {
			t.Errorf("a connection that a worker has: %v", err)
		}
		c.Close()
		defer func() {
			for _, pid := range pids {
				for end := time.Now().Add(patience); lives(pid); time.Sleep(2 * time.Millisecond) {
					if time.Now().After(end) {
						t.Errorf("worker %d lives", pid)
						return
					}
				}
			}
		}()
	}
}

// lives tells whether a process runs; one that nobody has waited for yet does not.
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// checkNoListener fails when a process has a listening socket.
func checkNoListener(t *testing.T, pid int) {
	t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		t.Fatal(err)
	}
	listening := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
			listening["socket:["+f[9]+"]"] = true
		}
	}
	if len(listening) == 0 {
		t.Error("nobody listens")
	}
	list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, p := range list {
		if name, err := os.Readlink(p); err == nil && listening[name] {
			t.Errorf("worker %d has the listener %s", pid, name)
		}
	}
}

// TestMaster_conns holds the most connections at once exactly.
func TestMaster_conns(t *testing.T) {
	for _, c := range []Config{{Workers: 2, Conns: 3}, {Workers: 1, PerWorker: 3}, {Workers: 3, PerWorker: 1}} {
		t.Run(fmt.Sprintf("%d,%d,%d", c.Workers, c.Conns, c.PerWorker), func(t *testing.T) { testConns(t, c) })
	}
}

func testConns(t *testing.T, c Config) {
	r := start(t, c)
	var open []net.Conn
	for i := range 3 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := r.talk(c, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	late := make(chan error, 1)
	go func() {
		_, err := r.ask("late")
		late <- err
	}()
	for range 20 {
		if s := r.Status(); s.Accepted > 3 {
			t.Fatalf("%+v", s)
		}
		time.Sleep(time.Millisecond)
	}
	open[0].Close()
	if err := <-late; err != nil {
		t.Error(err)
	}
}

// killing kills workers in turn, n times, while clients check what they get. No descriptor may stay.
func killing(t *testing.T, n int) {
	before := len(files(t))
	t.Run("kills", func(t *testing.T) {
		r := start(t, Config{Workers: 3, Backoff: Backoff{Min: time.Millisecond, Max: 2 * time.Millisecond}})
		stop := make(chan struct{})
		var clients sync.WaitGroup
		var mu sync.Mutex
		asked, ended := 0, 0
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
					asked++
					if err != nil {
						ended++
						if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
							t.Errorf("client %d: %v", i, err)
						}
					}
					mu.Unlock()
				}
			})
		}
		for k := 0; k < n; k++ {
			w := r.Status().Workers[k%3]
			if w.State != "ready" {
				r.await("a worker to kill", func(s Status) bool { return s.Workers[k%3].State == "ready" })
				w = r.Status().Workers[k%3]
			}
			syscall.Kill(w.PID, syscall.SIGKILL)
			r.await("it is noticed", func(s Status) bool { return s.Workers[k%3].PID != w.PID })
		}
		close(stop)
		clients.Wait()
		s := r.await("all are back", func(s Status) bool { return allReady(s) && s.Connections == 0 })
		restarts := 0
		for _, w := range s.Workers {
			restarts += w.Restarts
		}
		if restarts != n || asked == 0 {
			t.Errorf("%d restarts of %d, %d clients", restarts, n, asked)
		}
		if got := r.places(6); !maps.Equal(got, map[int]int{1: 2, 2: 2, 3: 2}) {
			t.Errorf("afterwards %v", got)
		}
		t.Logf("workers: tried=%d reached=%d injected=%d failed=0 seed=0 cut=%d redispatched=%d", asked, asked-ended, n, ended, s.Redispatched)
		closeOnExec(t)
	})
	for end := time.Now().Add(patience); len(files(t)) > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors, %d before: %v", len(files(t)), before, files(t))
		}
	}
}

func TestMaster_kills(t *testing.T) { killing(t, 12) }
