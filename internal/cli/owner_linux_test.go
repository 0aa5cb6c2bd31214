package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/control"
	"ndferry/internal/worker"
)

// served is ndferry serve on a directory, in a process group of its own.
type served struct {
	*exec.Cmd
	t       *testing.T
	addr    string
	control string
	args    []string
}

func serveDir(t *testing.T, args ...string) *served { return serveDirEnv(t, nil, args...) }

// serveDirEnv is serveDir with more in the environment.
func serveDirEnv(t *testing.T, env []string, args ...string) *served {
	t.Helper()
	dir := t.TempDir()
	s := &served{t: t, addr: "unix://" + filepath.Join(dir, "s"), control: filepath.Join(dir, "c", "control")}
	s.args = append([]string{"serve", "--store", filepath.Join(dir, "store"), "--listen", s.addr, "--control", s.control}, args...)
	s.start(env)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(s.control + ".log")
			t.Logf("log:\n%s", log)
		}
	})
	return s
}

// start starts the server, again when it has ended.
func (s *served) start(env []string) {
	t := s.t
	t.Helper()
	s.Cmd = exec.Command("ndferry", s.args...)
	s.Cmd.Env = append(os.Environ(), env...)
	s.Cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := os.MkdirAll(filepath.Dir(s.control), 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(s.control+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.Cmd.Stderr = log // a file: nobody waits for those who inherit a pipe
	out, err := s.Cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := s.Cmd
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal("the server did not say that it is ready")
	}
}

// dialPatiently dials until it works; nil when it does not in time.
func (s *served) dialPatiently() *client.Client {
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		c, err := client.Dial(s.t.Context(), s.addr, client.Config{Timeout: patience})
		if err == nil {
			s.t.Cleanup(func() { c.Close() })
			return c
		}
		if time.Now().After(end) {
			s.t.Errorf("no connection: %v", err)
			return nil
		}
	}
}

func (s *served) status() (st serverStatus) {
	s.t.Helper()
	if err := control.Ask(s.t.Context(), s.control, "status", &st); err != nil {
		s.t.Fatal(err)
	}
	return st
}

// awaitRefusal waits until nobody listens.
func (s *served) awaitRefusal() {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		c, err := net.Dial("unix", strings.TrimPrefix(s.addr, "unix://"))
		if err != nil {
			return
		}
		if c.Close(); time.Now().After(end) {
			s.t.Fatal("it still listens")
		}
	}
}

func (s *served) dial() *client.Client {
	s.t.Helper()
	c, err := client.Dial(s.t.Context(), s.addr, client.Config{Timeout: patience})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// halting is a source that stops before a cell until it is let go.
type halting struct {
	client.Array
	at      int
	reached chan struct{}
	let     chan struct{}
}

// Describe implements client.Source.
func (h *halting) Describe() (array.DType, array.Shape, array.Order) { return h.DType, h.Shape, nil }

// Cell implements client.Source.
func (h *halting) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	if i == h.at {
		close(h.reached)
		<-h.let
	}
	n := copy(buf, h.Data[min(i*len(buf), len(h.Data)):])
	clear(buf[n:])
	return buf, nil
}

func counting(t *testing.T, n int) client.Array {
	t.Helper()
	a := client.Array{Shape: array.Shape{n}, Data: make([]byte, n)}
	a.DType, _ = array.ParseDType("|u1")
	for i := range a.Data {
		a.Data[i] = byte(i * 7 >> 3)
	}
	return a
}

// TestOwner leaves a put half done on a connection that stands still, and asks for it again on others, which come to other workers: they are
// passed on to the worker that has the transfer, where the newest of them goes on with what is there.
func TestOwner(t *testing.T) {
	for _, driver := range []string{worker.GoroutineDriver, worker.LoopDriver} {
		t.Run(driver, func(t *testing.T) {
			s := serveDir(t, "--workers", "3", "--driver", driver)
			for round := range 3 {
				a := counting(t, 1<<20)
				opts := client.PutOptions{ChunkBytes: 64 << 10, Resume: true, Codec: "none"}
				opts.ID[0], opts.ID[1] = 1, byte(round)
				name := fmt.Sprint("a", round)
				h := &halting{Array: a, at: 9, reached: make(chan struct{}), let: make(chan struct{})}
				first := make(chan error, 1)
				old := s.dial()
				go func() {
					_, err := old.PutFrom(context.Background(), name, h, opts)
					first <- err
				}()
				<-h.reached
				before := s.status().Returned
				for range 3 { // the first comes to the next worker, which is not the owner
					if _, err := s.dial().Put(t.Context(), name, a, opts); err != nil {
						t.Fatalf("again: %v", err)
					}
				}
				close(h.let)
				if err := <-first; err == nil {
					t.Error("the old connection was not ended")
				}
				got, err := s.dial().Get(t.Context(), name, client.GetOptions{})
				if err != nil || !bytes.Equal(got.Data, a.Data) {
					t.Errorf("%s: other bytes, or %v", name, err)
				}
				if s.status().Returned == before {
					t.Errorf("round %d: no connection was passed on", round)
				}
			}
		})
	}
}

// TestJoined puts over eight connections to four workers: all cells come to the one that has the transfer.
func TestJoined(t *testing.T) {
	for _, driver := range []string{worker.GoroutineDriver, worker.LoopDriver} {
		t.Run(driver, func(t *testing.T) {
			s := serveDir(t, "--workers", "4", "--driver", driver)
			for round := range 5 {
				a := counting(t, 4<<20)
				c := s.dial()
				if _, err := c.Put(t.Context(), "x", a, client.PutOptions{ChunkBytes: 64 << 10, Streams: 8, Codec: "none"}); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				got, err := c.Get(t.Context(), "x", client.GetOptions{Streams: 4})
				if err != nil || !bytes.Equal(got.Data, a.Data) {
					t.Errorf("round %d: other bytes, or %v", round, err)
				}
			}
			st := s.status()
			if st.Returned == 0 || st.Refused != 0 {
				t.Errorf("%d connections were passed on, %d refused", st.Returned, st.Refused)
			}
		})
	}
}

// TestServeInterrupted sends SIGINT to the whole group, as a terminal does: what is in flight is finished.
func TestServeInterrupted(t *testing.T) {
	s := serveDir(t, "--workers", "2", "--drain", "20s")
	a := counting(t, 1<<20)
	h := &halting{Array: a, at: 5, reached: make(chan struct{}), let: make(chan struct{})}
	put := make(chan error, 1)
	c := s.dial()
	go func() {
		_, err := c.PutFrom(context.Background(), "x", h, client.PutOptions{ChunkBytes: 64 << 10, Codec: "none"})
		put <- err
	}()
	<-h.reached
	syscall.Kill(-s.Cmd.Process.Pid, syscall.SIGINT)
	s.awaitRefusal()
	close(h.let)
	if err := <-put; err != nil {
		t.Errorf("the put that was in flight: %v", err)
	}
	if err := s.Cmd.Wait(); err != nil {
		t.Errorf("serve: %v", err)
	}
}

// TestServeInterruptedTwice has a put that never ends: the second SIGINT ends master and workers at once.
func TestServeInterruptedTwice(t *testing.T) {
	for _, whole := range []bool{false, true} {
		s := serveDir(t, "--workers", "2", "--drain", "1h")
		h := &halting{Array: counting(t, 1<<20), at: 5, reached: make(chan struct{}), let: make(chan struct{})}
		defer close(h.let)
		c := s.dial()
		go c.PutFrom(context.Background(), "x", h, client.PutOptions{ChunkBytes: 64 << 10, Codec: "none"})
		<-h.reached
		workers := s.status().Workers
		pid := s.Cmd.Process.Pid
		if whole {
			pid = -pid
		}
		syscall.Kill(pid, syscall.SIGINT)
		s.awaitRefusal()
		done := make(chan error, 1)
		go func() { done <- s.Cmd.Wait() }()
		var err error
		for ended := false; !ended; { // a signal that comes before the handling of the second is set is lost
			syscall.Kill(pid, syscall.SIGINT)
			select {
			case err = <-done:
				ended = true
			case <-time.After(20 * time.Millisecond):
			}
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
			t.Errorf("whole group %v: %v", whole, err)
		}
		for _, w := range workers {
			awaitEnd(t, w.PID)
		}
	}
}
