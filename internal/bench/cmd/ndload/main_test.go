package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"ndferry/internal/worker"
	"ndferry/store/mem"
)

// served is set for a process that is this test's server.
const served = "NDLOAD_TEST_SERVE"

func TestMain(m *testing.M) {
	if name := os.Getenv(served); name != "" {
		fmt.Fprintln(os.Stderr, serveMoreAndMore(name))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveMoreAndMore serves, and has more descriptors at any time than before, as beside a crowd that connects.
func serveMoreAndMore(name string) error {
	ln, err := net.Listen("unix", name)
	if err != nil {
		return err
	}
	go func() {
		var more [2000]*os.File
		for i := range more {
			more[i], _ = os.Open(os.DevNull)
			time.Sleep(5 * time.Millisecond)
		}
		runtime.KeepAlive(&more)
	}()
	fmt.Println("serving")
	return worker.New(mem.New(mem.Config{}), worker.Config{}).Serve(ln)
}

// TestAskerDoesNotCount asks a server, as the process of -list does, whose descriptors become more meanwhile: it does not wait for these to go. The
// process that started the crowd, and ends it, counts.
func TestAskerDoesNotCount(t *testing.T) {
	name := fmt.Sprintf("@ndload-test-%d", os.Getpid())
	cmd := exec.Command(os.Args[0], "serve", "unix://"+name)
	cmd.Env = append(os.Environ(), served+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	l := &load{addr: "unix://" + name, asker: true, seconds: 0.2, figures: map[string]float64{}}
	if err := l.run(); err != nil {
		t.Fatal(err)
	}
	if _, counted := l.figures["files_left"]; counted || l.figures["ls_n"] == 0 {
		t.Errorf("the process that asks has counted descriptors, or asked nothing: %v", l.figures)
	}
	l.asker = false
	if s := l.watched(); s.files() == 0 || s.peak() == 0 {
		t.Errorf("%q has %d descriptors and had %v MiB", s, s.files(), s.peak())
	}
}

// TestMeasure adds up what is moved in a span, not what was before or comes after.
func TestMeasure(t *testing.T) {
	l := &load{ctx: context.Background(), figures: map[string]float64{"alone_before_MBps": 3, "alone_after_MBps": 1}}
	l.moved = make([]atomic.Int64, 2)
	l.moved[0].Add(5)
	s := l.measure(func() {
		l.moved[0].Add(3e6)
		l.moved[1].Add(1e6)
	})
	l.moved[1].Add(7)
	s.took = 2 * time.Second
	if l.sum(s); l.figures["goodput_MBps"] != 2 || l.figures["jain"] != 0.8 || l.figures["of_alone"] != 1 {
		t.Errorf("%v", l.figures)
	}
}
