//go:build gate && linux

package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ndferry/internal/handover"
	dispatch "ndferry/internal/master"
	"ndferry/internal/session"
	"ndferry/store/dir"
)

// The steps of a master, and of the workers that it started. The first word is the handover.Step.
var (
	masterSteps = []step{
		{"M1 accepted", false}, {"M2 described", false}, {"M3 before the descriptor is passed", false}, {"M4 passed, own copy open", false}, {"M5 worker answered", false},
		{"M6 reaping a worker", false}, {"M7 starting a worker", false}, {"M8 told to drain", false},
	}
	passedSteps = []step{{"W1 descriptor received", false}, {"W1+ taken", false}, {"W2 served", false}}
)

// workerSteps are those of the server that are in the seam of the file system, which a worker process has too.
func workerSteps() []step {
	list := passedSteps
	for _, s := range serverSteps {
		if !s.network {
			list = append(list, s)
		}
	}
	return list
}

// hook dies at a step of the handover.
func (d *dying) hook(s handover.Step) error {
	if word, _, _ := strings.Cut(d.step, " "); word == string(s) {
		d.at(d.step)
	}
	return nil
}

// master runs a master with two workers until it dies or is told to end.
func (o *stepOrder) master(d *dying) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	lock, err := dir.Lock(o.Store)
	if err != nil {
		return err
	}
	defer lock.Close()
	ln, err := net.Listen("unix", o.Socket)
	if err != nil {
		return err
	}
	workers := *o
	workers.Role, workers.Step, workers.Nth = "worker", o.WorkerStep, o.WorkerNth
	text, err := json.Marshal(workers)
	if err != nil {
		return err
	}
	m, err := dispatch.New(dispatch.Config{
		Workers: 2, Listeners: []net.Listener{ln}, Drain: 5 * time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Step: d.hook,
		Command: func() *exec.Cmd {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), stepEnv+"="+string(text))
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			return cmd
		},
		Start: func(index int, _ uint32) []byte { return []byte(OwnerName(os.Getpid(), index)) },
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	select {
	case <-m.Ready():
		fmt.Println("ready")
	case err := <-ended:
		return err
	}
	return <-ended
}

// worker runs one of a master's workers.
func (o *stepOrder) worker(d *dying) error {
	ctx := context.Background()
	ch, err := handover.Inherited(ctx, handover.WorkerConfig{Step: d.hook})
	if err != nil {
		return err
	}
	d.once, d.wrote = o.Once, func() { os.Stdout.WriteString("w") }
	d.early.Store(true)
	real, err := dir.NewOS(o.Store)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	owner := string(ch.Start())
	st, err := dir.Open(o.Store, dir.Config{FS: &stepFS{real, d}, Shared: true, Owner: owner, Log: quiet})
	if err != nil {
		return err
	}
	srv := New(st, Config{Owner: owner, Driver: o.Driver, Log: quiet, Session: session.Config{Checkpoint: stepCheckpoint}})
	d.early.Store(false)
	if err := ch.Ready(ctx); err != nil {
		return err
	}
	return srv.Attend(ctx, ch, 5*time.Second)
}

// killProcesses has a worker, or the master, die at a step. The master starts another worker; who supervises the master, which is this test,
// starts another one, while the workers of the dead one finish what they have.
func (m *matrix) killProcesses(order stepOrder, cut *cutter) {
	order.Once = filepath.Join(m.tmp, "died")
	step := order.Step
	byMaster := step[0] == 'M'
	switch {
	case !byMaster:
		order.Step, order.WorkerStep, order.WorkerNth = "", step, order.Nth
	case step[:2] == "M8":
		order.Nth = 1
	case step[:2] == "M6", step[:2] == "M7":
		order.WorkerStep, order.WorkerNth = "W6 before fdatasync", 1
		order.Nth = map[string]int64{"M6": 1, "M7": 3}[step[:2]] // two are started at the beginning
	}
	first, drained := m.server(order)
	defer syscall.Kill(-first.Process.Pid, syscall.SIGKILL)
	ended := m.puts(order, cut)
	if step[:2] == "M8" {
		for m.wrote.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		first.Process.Signal(syscall.SIGTERM)
	}
	stop := func() {}
	if byMaster {
		if !m.comes(first, ended) {
			m.t.Errorf("%s, time %d: not reached", step, order.Nth)
			return
		}
		order.Step, order.WorkerStep = "", ""
		second, rest := m.server(order)
		stop = func() {
			syscall.Kill(-second.Process.Pid, syscall.SIGKILL)
			second.Wait()
			<-rest
		}
	}
	<-ended
	stop()
	syscall.Kill(-first.Process.Pid, syscall.SIGKILL)
	if !byMaster {
		first.Wait()
	}
	<-drained
	if _, err := os.Stat(order.Once); !byMaster && err != nil {
		m.t.Errorf("%s: no worker came to it: %v", step, err)
	}
}

// comes waits until the process has died at its step, and reports false when it has not long after all puts have ended.
func (m *matrix) comes(cmd *exec.Cmd, ended chan struct{}) bool {
	died := make(chan struct{})
	go func() { m.killed(cmd, new(strings.Builder)); close(died) }()
	select {
	case <-died:
		return true
	case <-ended:
	}
	select {
	case <-died:
		return true
	case <-time.After(patience):
		return false
	}
}
