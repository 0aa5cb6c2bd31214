//go:build linux

package master

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
	"ndferry/internal/handover"
)

// patience is for what must happen: it bounds a test that hangs, and judges nothing.
const patience = time.Minute

// roleEnv makes the test binary a worker or a master.
const roleEnv = "MASTER_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "worker":
		os.Exit(workerMain())
	case "master":
		os.Exit(masterMain())
	}
	for fd := range 1024 {
		inherited[fd] = inheritable(fd)
	}
	os.Exit(m.Run())
}

func command(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// workerMain answers each line with "PLACE PID line". Workers in odd places receive on a loop, the others by Run. What START says:
//
//	fail           cannot start
//	crash          ends before it is ready
//	ABOUT STEP [N] at the first or N-th time of the step: kill, stop or error
//	slow D         answers after D
//	deaf           does not end when it is told to
func workerMain() int {
	var step struct {
		about, name string
		n, times    int
	}
	var mu sync.Mutex
	hook := func(s handover.Step) (err error) {
		if string(s) != step.name {
			return nil
		}
		mu.Lock()
		step.times++
		now := step.times == max(step.n, 1)
		mu.Unlock()
		if now {
			switch step.about {
			case "kill":
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			case "stop":
				err = fdtest.StopSelf()
			case "error":
				err = errors.New("planned")
			}
		}
		return err
	}
	w, err := handover.Inherited(context.Background(), handover.WorkerConfig{Step: hook})
	if err != nil {
		fmt.Fprintln(os.Stderr, "test worker:", err)
		return 1
	}
	what := strings.Fields(string(w.Start()))
	delay := time.Duration(0)
	switch {
	case len(what) == 0:
	case what[0] == "fail":
		w.Fail(context.Background(), 42, errors.New("it is the test's wish"))
		return 1
	case what[0] == "crash":
		return 3
	case what[0] == "slow":
		delay, _ = time.ParseDuration(what[1])
	case len(what) == 2 || len(what) == 3 && what[0] != "hostile":
		step.about, step.name = what[0], what[1]
		if len(what) == 3 {
			step.n, _ = strconv.Atoi(what[2])
		}
	}
	if err := w.Ready(context.Background()); err != nil {
		return 1
	}
	if len(what) > 1 && what[0] == "hostile" {
		return beHostile(w, what[1:])
	}
	var active sync.WaitGroup
	wait := func(d time.Duration) {
		done := make(chan struct{})
		go func() { active.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(d):
		}
	}
	err = receive(w, func(c *handover.Conn) error {
		s, err := c.Socket()
		if err != nil {
			return err
		}
		disown := own(c.Cookie, s)
		active.Go(func() {
			defer w.Words().Closed()
			defer s.Close()
			defer disown()
			lines := bufio.NewReader(s)
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				time.Sleep(delay)
				fmt.Fprintf(s, "%d %d %s", w.Index(), os.Getpid(), line)
			}
		})
		return nil
	}, func(d time.Duration) {
		if len(what) > 0 && what[0] == "deaf" {
			return
		}
		go func() { wait(d); os.Exit(0) }()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "test worker:", err)
		return 1
	}
	wait(2 * time.Second) // the master is dead
	return 0
}

// receive is Run in even places; in odd ones, Run as who has a loop does it.
func receive(w *handover.Worker, handle handover.Handler, drain func(time.Duration)) error {
	if w.Index()%2 == 0 {
		return w.Run(context.Background(), handle, drain)
	}
	type timer struct {
		at time.Time
		f  func()
	}
	var timers []timer
	fd, err := w.Attach(func(d time.Duration, f func()) { timers = append(timers, timer{time.Now().Add(d), f}) })
	if err != nil {
		return err
	}
	for {
		wait := -1
		if len(timers) > 0 {
			wait = max(int(time.Until(timers[0].at)/time.Millisecond)+1, 0)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, wait)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			if ended, err := w.Turn(handle, drain); ended {
				return err
			}
		}
		for len(timers) > 0 && !time.Now().Before(timers[0].at) {
			f := timers[0].f
			timers = timers[1:]
			f()
		}
	}
}

// masterMain is a master of two workers that says where it listens and who they are.
func masterMain() int {
	ln, err := net.Listen("tcp", os.Getenv("MASTER_TEST_ADDR"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	m, err := New(Config{Workers: 2, Command: func() *exec.Cmd { return command("worker") }, Listeners: []net.Listener{ln},
		Step: dieAt(os.Getenv("MASTER_TEST_DIES"))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		<-m.Ready()
		s := m.Status()
		fmt.Println(ln.Addr(), s.Workers[0].PID, s.Workers[1].PID)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := m.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 0
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a master that runs in this process.
type running struct {
	*Master
	t    testing.TB
	addr string
	log  *logBuffer
	stop context.CancelFunc
	done chan error
}

// start runs a master with the workers' behaviour by place and generation.
func start(t testing.TB, cfg Config) *running {
	t.Helper()
	r := run(t, cfg)
	select {
	case <-r.Ready():
	case <-time.After(patience):
		t.Fatalf("not ready:\n%s", r.log)
	}
	return r
}

// run is start without waiting.
func run(t testing.TB, cfg Config) *running {
	t.Helper()
	fdtest.Audit(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, addr: ln.Addr().String(), log: &logBuffer{}, done: make(chan error, 1)}
	cfg.Listeners = append(cfg.Listeners, ln)
	cfg.Command = func() *exec.Cmd { return command("worker") }
	cfg.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if cfg.Drain == 0 {
		cfg.Drain = 30 * time.Second
	}
	if cfg.Take == 0 {
		cfg.Take = patience // no worker counts as stalled because the machine is busy elsewhere
	}
	if r.Master, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		err := r.Run(ctx)
		r.done <- err
		r.done <- err
	}()
	t.Cleanup(func() {
		stop()
		<-r.done
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

// answer is what a worker said.
type answer struct {
	place, pid int
}

// ask sends one line on a new connection and checks the answer byte by byte. An error means that the connection ended without one.
func (r *running) ask(text string) (a answer, err error) {
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		return a, err
	}
	defer c.Close()
	return r.talk(c, text)
}

func (r *running) talk(c net.Conn, text string) (a answer, err error) {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		return a, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && line == "" {
		return a, err
	}
	f := strings.Fields(line)
	if err != nil || len(f) != 3 || f[2] != text {
		r.t.Errorf("to %q came %q, %v", text, line, err)
		return a, io.ErrUnexpectedEOF
	}
	a.place, _ = strconv.Atoi(f[0])
	a.pid, _ = strconv.Atoi(f[1])
	return a, nil
}

// places asks n times, one after the other, and counts who answers.
func (r *running) places(n int) map[int]int {
	r.t.Helper()
	by := map[int]int{}
	for i := range n {
		a, err := r.ask(fmt.Sprintf("line-%d", i))
		if err != nil {
			r.t.Fatalf("connection %d: %v", i, err)
		}
		by[a.place]++
	}
	return by
}

// allServe waits until n workers answer. Where Take is short, one that was held up for as long may have had nothing at first.
func (r *running) allServe(n int) {
	r.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		got := r.places(2 * n)
		if len(got) == n {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("of %d workers %v serve", n, got)
		}
	}
}

// await waits until the status is as it should be.
func (r *running) await(what string, ok func(Status) bool) Status {
	r.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if s := r.Status(); ok(s) {
			return s
		} else if time.Now().After(end) {
			r.t.Fatalf("%s: %+v\n%s", what, s, r.log)
		}
	}
}

func allReady(s Status) bool {
	for _, w := range s.Workers {
		if w.State != "ready" {
			return false
		}
	}
	return true
}

// files lists this process's descriptors that are not the runtime's.
func files(t testing.TB) []string {
	t.Helper()
	list, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range list {
		if name, err := os.Readlink(p); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// inherited are the descriptors that this process was started with.
var inherited = map[int]bool{}

func inheritable(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// closeOnExec fails when a descriptor that this process opened would be inherited.
func closeOnExec(t testing.TB) {
	t.Helper()
	list, _ := filepath.Glob("/proc/self/fd/*")
	for _, p := range list {
		fd, _ := strconv.Atoi(filepath.Base(p))
		if inheritable(fd) && !inherited[fd] {
			name, _ := os.Readlink(p)
			t.Errorf("descriptor %d (%s) is not close-on-exec", fd, name)
		}
	}
}
