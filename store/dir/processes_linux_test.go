package dir_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

var (
	processTime = flag.Duration("process-time", 4*time.Second, "how long TestProcesses kills")
	processSeed = flag.Uint64("process-seed", uint64(time.Now().UnixNano()), "seed of TestProcesses")
)

// event is one operation of a process, as it tells it: once when it begins, and once more when it is over.
type event struct {
	kind       string // put, delete, get, once
	name       string
	seed       uint64 // of the array that was put
	begin, end int64  // ns of a clock that all processes share; end MaxInt64: it was killed before it knew
	died       int64  // of the process that was killed over it
	created    int64  // of the receipt of a put
	id         uint64 // the first half of the transfer's id that was put or found; 0: there was none
}

const neverEnded = math.MaxInt64

// TestProcesses has several processes put, replace, delete and get the same few names, and the same few transfers, while one after
// another is killed. What each tells must fit: a get finds what an acknowledged change left, whole; after the end nothing
// acknowledged is lost, and each transfer was stored once.
func TestProcesses(t *testing.T) {
	if os.Getenv("NDFERRY_STORE_PROCESS") != "" {
		beProcess(t)
		return
	}
	const processes = 3
	t.Logf("store-processes: seed=%d", *processSeed)
	random := rand.New(rand.NewPCG(*processSeed, 0))
	path := quickDir(t) + "/store"
	server, err := dir.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var children [processes]*child
	var history []event
	for i := range children {
		children[i] = startProcess(t, path, i+1)
	}
	const least = 12 // kills of a machine on which nothing is quick
	kills, next := 0, processes
	for end := time.Now().Add(*processTime); kills < least || time.Now().Before(end); {
		time.Sleep(time.Duration(20+random.IntN(150)) * time.Millisecond) // work to interrupt
		i := random.IntN(processes)
		children[i].await(t)
		history = append(history, children[i].kill(t)...)
		kills++
		next++
		children[i] = startProcess(t, path, next)
	}
	for _, c := range children {
		history = append(history, c.stop(t)...)
	}
	checkHistory(t, path, history)
	counts := map[string]int{}
	for _, e := range history {
		if e.end != neverEnded {
			counts[e.kind]++
		}
	}
	t.Logf("store-processes: tried=%d kills=%d done=%v failed=0 seed=%d", len(history), kills, counts, *processSeed)
	for _, kind := range []string{"put", "delete", "get", "once"} {
		if counts[kind] == 0 {
			t.Errorf("no %s was done", kind)
		}
	}
}

// child is a process and what it tells.
type child struct {
	cmd   *exec.Cmd
	stdin *os.File
	begun chan struct{} // closed when it has done something, or ended
	told  chan []event
}

func startProcess(t *testing.T, path string, number int) *child {
	t.Helper()
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, log, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{stdin: stdin, begun: make(chan struct{}), told: make(chan []event, 1)}
	c.cmd = exec.Command(os.Args[0], "-test.run", "^TestProcesses$", "-process-seed", fmt.Sprint(*processSeed))
	c.cmd.Env = append(os.Environ(), "NDFERRY_STORE_PROCESS="+strconv.Itoa(number), "NDFERRY_STORE_PATH="+path)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr, c.cmd.ExtraFiles = in, os.Stderr, os.Stderr, []*os.File{log}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	log.Close()
	go func() {
		defer out.Close()
		begun := sync.OnceFunc(func() { close(c.begun) })
		defer begun()
		var events []event
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e event
			if _, err := fmt.Sscan(lines.Text(), &e.kind, &e.name, &e.seed, &e.begin, &e.end, &e.created, &e.id); err != nil {
				t.Errorf("a process tells: %s", lines.Text())
				continue
			}
			if n := len(events); n > 0 && events[n-1].end == neverEnded {
				events = events[:n-1]
			}
			if events = append(events, e); e.end != neverEnded {
				begun()
			}
		}
		c.told <- events
	}()
	return c
}

// await waits until the process has done something.
func (c *child) await(t *testing.T) {
	t.Helper()
	select {
	case <-c.begun:
	case <-time.After(time.Minute):
		t.Fatal("a process does nothing")
	}
}

func (c *child) kill(t *testing.T) []event {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = c.cmd.Wait()
	died := clock()
	c.stdin.Close()
	events := <-c.told
	if n := len(events); n > 0 && events[n-1].end == neverEnded {
		events[n-1].died = died
	}
	return events
}

func (c *child) stop(t *testing.T) []event {
	t.Helper()
	c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("a process: %v", err)
	}
	return <-c.told
}

func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// beProcess works on the store until its input ends.
func beProcess(t *testing.T) {
	number, _ := strconv.ParseUint(os.Getenv("NDFERRY_STORE_PROCESS"), 10, 64)
	log := os.NewFile(3, "log")
	s, err := dir.Open(os.Getenv("NDFERRY_STORE_PATH"), dir.Config{Shared: true, Owner: fmt.Sprint(number), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(done)
	}()
	var mu sync.Mutex
	tell := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(log, e.kind, e.name, e.seed, e.begin, e.end, e.created, e.id)
	}
	random := rand.New(rand.NewPCG(*processSeed, number))
	for count := uint64(1); ; count++ {
		select {
		case <-done:
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			return
		default:
		}
		e := event{name: []string{"g/a", "g/h/b", "c"}[random.IntN(3)], end: neverEnded}
		x := (*storetest.Sample)(nil)
		switch n := random.IntN(10); {
		case n < 4:
			e.kind, e.seed = "put", number<<32|count
		case n < 6:
			e.kind = "delete"
		case n < 8:
			e.kind, e.seed = "once", uint64(time.Duration(clock())/(20*time.Millisecond))
			e.name = fmt.Sprintf("once/%d", e.seed%4)
		default:
			e.kind = "get"
		}
		if e.seed > 0 {
			x = small(t, e.name, e.seed)
			x.Resume = random.IntN(2) == 0
			x.Relaxed = random.IntN(4) == 0
			e.id = binary.LittleEndian.Uint64(x.ID[:])
		}
		e.begin = clock()
		tell(e)
		if err := work(t, s, x, &e); err != nil {
			t.Errorf("%s %s: %v", e.kind, e.name, err)
			return
		}
		e.end = clock()
		tell(e)
	}
}

// work does what the event says. Having nothing to delete, and a transfer that another process has, are told as a get and as nothing.
func work(t *testing.T, s *dir.Store, x *storetest.Sample, e *event) error {
	switch e.kind {
	case "put", "once":
		r, err := x.TryPut(t, s)
		if errors.As(err, new(*store.OwnedError)) && e.kind == "once" {
			e.kind = "busy"
			return nil
		}
		e.created = r.Created.UnixNano()
		return err
	case "delete":
		err := s.Delete(t.Context(), e.name)
		if errors.Is(err, store.ErrNotFound) {
			e.kind = "get"
			return nil
		}
		return err
	}
	a, err := s.Open(t.Context(), e.name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer a.Close()
	id := a.Info().ID
	e.id = binary.LittleEndian.Uint64(id[:])
	return a.Verify(t.Context(), nil, func(p store.Problem) { t.Errorf("%s: %+v", e.name, p) })
}

// checkHistory compares what processes told with each other and with what is left.
func checkHistory(t *testing.T, path string, history []event) {
	s := open(t, path, dir.Config{Shared: true, Log: quiet})
	defer s.Close()
	for _, name := range []string{"g/a", "g/h/b", "c"} {
		e := event{kind: "get", name: name, begin: clock()}
		if err := work(t, s, nil, &e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		e.end = clock()
		history = append(history, e)
	}
	for _, e := range history {
		if e.kind == "get" && e.end != neverEnded { // of one that was killed nobody knows what it found
			checkGet(t, history, e)
		}
	}
	once := map[uint64]int64{}
	for _, e := range history {
		if e.kind != "put" && e.kind != "once" {
			continue
		}
		x := small(t, e.name, e.seed)
		x.Resume = true
		// Asked for again, a transfer that was acknowledged has its receipt, and any other one is stored now or was already.
		if e.end == neverEnded {
			if _, err := x.TryPut(t, s); err != nil {
				t.Errorf("%s again: %v", e.name, err)
			}
			continue
		}
		if _, r, err := s.Begin(t.Context(), x.Spec); err != nil || r == nil || r.ID != x.ID || r.Created.UnixNano() != e.created {
			t.Errorf("%s: an acknowledged transfer has the receipt %+v, error %v", e.name, r, err)
		}
		if c, ok := once[e.seed]; ok && c != e.created {
			t.Errorf("%s: one transfer was stored twice", e.name)
		}
		once[e.seed] = e.created
	}
}

// checkGet fails the test unless what was found is what some change left that no acknowledged one had replaced before.
func checkGet(t *testing.T, history []event, got event) {
	t.Helper()
	replaced := func(by int64) bool { // a change that was over by then was followed by another one
		for _, e := range history {
			if e.name == got.name && (e.kind == "put" || e.kind == "delete") && e.end != neverEnded && e.begin > by && e.end < got.begin {
				return true
			}
		}
		return false
	}
	if got.id == 0 && !replaced(0) {
		return // never there
	}
	for _, e := range history {
		if e.name != got.name || e.begin > got.end {
			continue
		}
		fits := got.id == 0 && e.kind == "delete" || got.id != 0 && e.kind == "put" && e.id == got.id
		over := e.end
		if over == neverEnded {
			over = e.died
		}
		if fits && !replaced(over) {
			return
		}
	}
	t.Errorf("%s at %d: found %x, which no change explains", got.name, got.begin, got.id)
}
