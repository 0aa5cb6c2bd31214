package cli

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ndferry/client"
	"ndferry/fdpass/fdtest"
	"ndferry/internal/handover"
)

// stepEnv is "ACTION STEP FILE": the first process that comes to the step while there is no file makes it and kills itself, stops itself, or
// lets what follows the step fail. The names of the steps are handover's.
const stepEnv = "NDFERRY_TEST_STEP"

// plantStep is for the program ndferry.
func plantStep() {
	f := strings.Fields(os.Getenv(stepEnv))
	if len(f) != 3 {
		return
	}
	stepHook = func(s handover.Step) error {
		if string(s) != f[1] {
			return nil
		}
		mark, err := os.OpenFile(f[2], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil // it has been
		}
		fmt.Fprint(mark, os.Getpid())
		mark.Close()
		switch f[0] {
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case "stop":
			return fdtest.StopSelf()
		case "error":
			return errors.New("planted")
		}
		return nil
	}
}

// allSteps is set for the campaign.
var allSteps = os.Getenv("NDFERRY_ALL_STEPS") != ""

// TestSteps has a fault at every named step of the dispatch, under clients that put and get and check every byte, and try again. When the
// master dies another one starts at once.
func TestSteps(t *testing.T) {
	for _, step := range []handover.Step{
		handover.StepReceived, handover.StepTaken, handover.StepServed, handover.StepAccepted, handover.StepDescribe, handover.StepOffer,
		handover.StepOffered, handover.StepAnswered, handover.StepReap, handover.StepSpawn,
	} {
		for _, action := range []string{"kill", "stop", "error"} {
			if action != "kill" && step != handover.StepReceived && step != handover.StepOffered && !allSteps {
				continue // internal/master has them all, with clients that say less
			}
			t.Run(action+" "+string(step), func(t *testing.T) { testStep(t, action, step) })
		}
	}
}

func testStep(t *testing.T, action string, step handover.Step) {
	mark := filepath.Join(t.TempDir(), "mark")
	early := step == handover.StepReap || step == handover.StepSpawn // a worker has to die first
	if early {
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serveDirEnv(t, []string{stepEnv + "=" + action + " " + string(step) + " " + mark}, "--workers", "2")
	var clients sync.WaitGroup
	rounds := 3
	for i := range 3 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(i)))
			for k := range rounds { // each on a connection of its own
				c := s.dialPatiently()
				if c == nil {
					return
				}
				if err := roundTrip(t, c, rng, fmt.Sprintf("c%d/%d", i, k)); err != nil {
					t.Errorf("client %d, round %d: %v", i, k, err)
				}
				c.Close()
			}
		})
	}
	if early {
		os.Remove(mark)
		syscall.Kill(s.status().Workers[0].PID, syscall.SIGKILL)
	}
	pid := 0
	for end := time.Now().Add(patience); pid == 0; time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(mark); err == nil {
			fmt.Sscan(string(text), &pid)
		}
		if time.Now().After(end) {
			t.Fatal("the step was not reached")
		}
	}
	master := s.Cmd.Process.Pid
	switch {
	case action == "stop":
		if err := fdtest.AwaitStop(pid); err != nil { // one that goes on before it stands still never does
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
		syscall.Kill(pid, syscall.SIGCONT)
	case action == "kill" && pid == master:
		s.Cmd.Wait()
		s.start(nil)
	}
	clients.Wait()
	st := s.await("nothing to be open and both workers to be ready", func(st serverStatus) bool {
		return st.Connections == 0 && st.Waiting == 0 && st.Workers[0].State == "ready" && st.Workers[1].State == "ready"
	})
	if action == "kill" && pid != master && st.Workers[0].Restarts+st.Workers[1].Restarts == 0 {
		t.Error("no worker was started again")
	}
}

// TestStopStep kills the master at the moment when it would tell its workers to end, or kills it outright: what is in flight is finished, nothing
// new is taken, and the workers end.
func TestStopStep(t *testing.T) {
	for _, how := range []string{"kill M8", "error M8", "outright"} {
		t.Run(how, func(t *testing.T) {
			var env []string
			if how != "outright" {
				env = []string{stepEnv + "=" + how + " " + filepath.Join(t.TempDir(), "mark")}
			}
			s := serveDirEnv(t, env, "--workers", "2", "--drain", "20s")
			h := &halting{Array: counting(t, 1<<20), at: 5, reached: make(chan struct{}), let: make(chan struct{})}
			put := make(chan error, 1)
			c := s.dial()
			go func() {
				_, err := c.PutFrom(t.Context(), "x", h, client.PutOptions{ChunkBytes: 64 << 10, Codec: "none"})
				put <- err
			}()
			<-h.reached
			workers := s.status().Workers
			if how == "outright" {
				s.Cmd.Process.Kill()
			} else {
				s.Cmd.Process.Signal(syscall.SIGTERM)
			}
			s.awaitRefusal()
			if how != "error M8" { // else it waits for the put
				s.Cmd.Wait()
			}
			close(h.let)
			if err := <-put; err != nil {
				t.Errorf("the put that was in flight: %v", err)
			}
			for _, w := range workers {
				awaitEnd(t, w.PID)
			}
		})
	}
}

// awaitEnd waits until a process that is not this one's child has ended, whether somebody has waited for it or not.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d lives", pid)
		}
	}
}

// stopProcess returns when the process stands still.
func stopProcess(pid int) error { return fdtest.Stop(pid) }
