//go:build linux

package master

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ndferry/fdpass/fdtest"
	"ndferry/internal/handover"
)

// dieAt kills this process at a step; "M3 5" is the fifth time of M3.
func dieAt(text string) handover.Hook {
	step, count, _ := strings.Cut(text, " ")
	n, _ := strconv.Atoi(count)
	if step == "" {
		return nil
	}
	var times atomic.Int32
	return func(s handover.Step) error {
		if string(s) == step && int(times.Add(1)) == max(n, 1) {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
}

// fault is what happens at the n-th time of a step.
type fault struct {
	step  handover.Step
	about string
	n     int
}

func (f fault) String() string { return fmt.Sprintf("%s %s %d", f.about, f.step, f.n) }

// tally is what clients saw.
type tally struct {
	tried, answered, ended, refused atomic.Int64
}

// client connects, sends a line, checks the answer and that no second one comes. Every end in time is allowed; what may be lost is
// for the caller to judge.
func (y *tally) client(t *testing.T, addr, text string) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		y.refused.Add(1)
		return
	}
	defer c.Close()
	y.tried.Add(1)
	c.SetDeadline(time.Now().Add(patience))
	gone := func(err error) bool {
		return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	}
	in := bufio.NewReader(c)
	for _, part := range []string{text[:len(text)/2], text[len(text)/2:] + "\n"} {
		if _, err := io.WriteString(c, part); err != nil {
			if !gone(err) {
				t.Errorf("%s: %v", text, err)
			}
			y.ended.Add(1)
			return
		}
	}
	line, err := in.ReadString('\n')
	if err != nil {
		if !gone(err) || line != "" {
			t.Errorf("%s: %q, %v", text, line, err) // it hangs, or an answer was cut
		}
		y.ended.Add(1)
		return
	}
	if f := strings.Fields(line); len(f) != 3 || f[2] != text {
		t.Errorf("to %q came %q", text, line)
	}
	y.answered.Add(1)
	c.(*net.TCPConn).CloseWrite()
	if more, err := io.ReadAll(in); len(more) > 0 || err != nil && !gone(err) {
		t.Errorf("to %q came more: %q, %v", text, more, err)
	}
}

// crowd runs clients, some at a time, until each has ended.
func (y *tally) crowd(t *testing.T, addr string, clients, each int) {
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for k := range each {
				y.client(t, addr, fmt.Sprintf("%d-%d", i, k))
			}
		})
	}
	all.Wait()
}

// faultsDispatch is the matrix: every step of dispatch, with a kill, a pause and an error at it.
func faultsDispatch(t *testing.T, rounds int) {
	var rows []fault
	for round := range rounds {
		n := 1 + round%8
		for _, s := range []handover.Step{"M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8"} {
			rows = append(rows, fault{s, "error", n}, fault{s, "pause", n})
		}
		for _, s := range []handover.Step{"M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8"} {
			rows = append(rows, fault{s, "die", n})
		}
		for _, s := range []handover.Step{"W1", "W1+", "W2"} {
			rows = append(rows, fault{s, "kill", n}, fault{s, "stop", n}, fault{s, "error", n})
		}
	}
	tried, injected, lost, owned := 0, 0, 0, 0
	for _, f := range rows {
		t.Run(f.String(), func(t *testing.T) {
			o := watchOwners(t)
			var y tally
			var hit bool
			switch {
			case f.about == "die":
				hit = masterDies(t, f, &y)
			default:
				hit = masterLives(t, f, &y)
			}
			if !hit {
				t.Errorf("the fault did not happen")
			} else {
				injected++
			}
			owned += o.end()
			tried += int(y.tried.Load())
			lost += int(y.ended.Load())
		})
	}
	failed := 0
	if t.Failed() {
		failed = 1
	}
	t.Logf("dispatch-faults: tried=%d reached=%d injected=%d failed=%d seed=0 rows=%d ended_without_answer=%d", tried, owned, injected, failed, len(rows), lost)
}

// masterLives has a fault in the master, which lives, or in its workers. What is lost was touched by a worker that died, or is what the
// error was about.
func masterLives(t *testing.T, f fault, y *tally) (hit bool) {
	if f.step == handover.StepDrain {
		f.n = 1
	}
	var times, fired atomic.Int32
	hook := func(s handover.Step) error {
		if s != f.step || int(times.Add(1)) != f.n {
			return nil
		}
		fired.Add(1)
		if f.about == "pause" {
			time.Sleep(150 * time.Millisecond)
			return nil
		}
		return errors.New("planned")
	}
	// A worker that is to stop or die does so in its first life.
	behaviour := func(_ int, gen uint32) []byte {
		if strings.HasPrefix(string(f.step), "W") && gen <= 2 {
			return []byte(fmt.Sprintf("%s %s %d", f.about, f.step, f.n))
		}
		return nil
	}
	take := 100 * time.Millisecond // for what is not sent, or stands still
	if f.about == "kill" {
		take = patience
	}
	r := start(t, Config{Workers: 2, Take: take, Step: hook, Start: behaviour, Backoff: Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond}})
	first := r.Status()
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				r.words()
			}
		}
	})
	if f.step == handover.StepReap || f.step == handover.StepSpawn {
		watch.Go(func() { // somebody has to die
			for range f.n {
				w := r.Status().Workers[0]
				if w.PID != 0 {
					syscall.Kill(w.PID, syscall.SIGKILL)
				}
				r.await("another one", func(s Status) bool { return s.Workers[0].State == "ready" && s.Workers[0].PID != w.PID })
			}
		})
	}
	var woken atomic.Int32
	if f.about == "stop" {
		for _, w := range first.Workers {
			watch.Go(func() {
				if wake(w.PID, stop) {
					woken.Add(1)
				}
			})
		}
	}
	y.crowd(t, r.addr, 4, 6)
	if f.step == handover.StepDrain {
		last := make(chan struct{})
		go func() { y.crowd(t, r.addr, 2, 1); close(last) }()
		<-last
		r.stop()
		<-r.done
		close(stop)
		watch.Wait()
		return fired.Load() == 1
	}
	s := r.await("both serve again", func(s Status) bool { return allReady(s) && s.Connections == 0 })
	close(stop)
	watch.Wait()
	allowed := int64(s.Cut)
	if f.about == "error" && (f.step == handover.StepAccepted || f.step == handover.StepDescribe) {
		allowed++
	}
	if lost := y.ended.Load(); lost > allowed || y.refused.Load() > 0 {
		t.Errorf("%d connections ended without an answer, at most %d may; %d were refused", lost, allowed, y.refused.Load())
	}
	r.allServe(2)
	switch {
	case f.about == "stop":
		return woken.Load() == 2
	case strings.HasPrefix(string(f.step), "W") && f.about == "kill":
		return s.Workers[0].Restarts+s.Workers[1].Restarts == 2
	case strings.HasPrefix(string(f.step), "W"):
		return strings.Contains(r.log.String(), "planned")
	}
	return fired.Load() == 1
}

// wake lets a worker that stops go on when what it has not taken was revoked, unless it did not stop.
func wake(pid int, stop chan struct{}) bool {
	for !fdtest.Stopped(pid) {
		select {
		case <-stop:
			return false
		case <-time.After(time.Millisecond):
		}
	}
	time.Sleep(300 * time.Millisecond)
	return syscall.Kill(pid, syscall.SIGCONT) == nil
}

// masterDies kills the master at a step. What it had not passed is lost, and counted; nobody hangs, nobody is answered twice, the
// workers end, and another master serves at the same address at once.
func masterDies(t *testing.T, f fault, y *tally) (hit bool) {
	n := f.n
	switch f.step {
	case handover.StepReap:
		n = min(n, 2)
	case handover.StepSpawn:
		n = 2 + min(n, 2) // it starts two at first
	case handover.StepDrain:
		n = 1
	}
	cmd := command("master")
	addr := "127.0.0.1:0"
	cmd.Env = append(cmd.Env, "MASTER_TEST_ADDR="+addr, fmt.Sprintf("MASTER_TEST_DIES=%s %d", f.step, n))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	died := make(chan struct{})
	defer func() { cmd.Process.Kill(); <-died }()
	line, err := bufio.NewReader(out).ReadString('\n')
	var pids [2]int
	if _, scan := fmt.Sscan(line, &addr, &pids[0], &pids[1]); err != nil || scan != nil {
		go func() { cmd.Wait(); close(died) }()
		t.Fatalf("%q, %v, %v", line, err, scan)
	}
	go func() { cmd.Wait(); close(died) }()
	y.crowd(t, addr, 4, 2)
	switch f.step {
	case handover.StepReap, handover.StepSpawn:
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	case handover.StepDrain:
		cmd.Process.Signal(syscall.SIGTERM)
	}
	y.crowd(t, addr, 4, 4)
	select {
	case <-died:
		hit = true
	case <-time.After(patience):
	}
	for _, pid := range pids {
		for end := time.Now().Add(patience); syscall.Kill(pid, 0) == nil && !exiting(pid); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("worker %d lives", pid)
				break
			}
		}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Errorf("another master cannot listen: %v", err)
		return hit
	}
	ln.Close()
	t.Logf("the master's death lost %d of %d connections; %d came later and were refused", y.ended.Load(), y.tried.Load(), y.refused.Load())
	return hit
}

// TestMaster_faults is the matrix in short: one step of each kind.
func TestMaster_faults(t *testing.T) {
	for _, f := range []fault{{"M3", "error", 1}, {"M4", "pause", 1}, {"M4", "die", 2}, {"W1", "kill", 1}, {"W1+", "kill", 1}, {"W2", "kill", 1}} {
		t.Run(f.String(), func(t *testing.T) {
			o := watchOwners(t)
			var y tally
			hit := f.about == "die" && masterDies(t, f, &y) || f.about != "die" && masterLives(t, f, &y)
			if !hit {
				t.Error("the fault did not happen")
			}
			o.end()
		})
	}
}

// TestMaster_notPassed fails to pass the only offer that a worker has: nothing that it says would end its being stalled, and it gets the
// connection all the same, and the next one.
func TestMaster_notPassed(t *testing.T) {
	var times atomic.Int32
	r := start(t, Config{Workers: 1, Take: 50 * time.Millisecond, Step: func(s handover.Step) error {
		if s == handover.StepOffer && times.Add(1) == 1 {
			return errors.New("planned")
		}
		return nil
	}})
	for i := range 2 {
		if _, err := r.ask(fmt.Sprint("line", i)); err != nil {
			t.Fatal(err)
		}
	}
	r.await("it serves", func(s Status) bool {
		return allReady(s) && s.Connections == 0 && s.Workers[0].Taken == 2 && s.Revoked > 0
	})
}
