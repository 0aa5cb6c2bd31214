package cli

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/internal/worker"
	"ndferry/wire"
)

// TestServeSecondSignal has a transfer in flight: the first SIGTERM is told to its client and waits for it, the second ends the server
// at once.
func TestServeSecondSignal(t *testing.T) {
	for _, driver := range []string{worker.LoopDriver, worker.GoroutineDriver} {
		t.Run(driver, func(t *testing.T) { testSecondSignal(t, driver) })
	}
}

func testSecondSignal(t *testing.T, driver string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := filepath.Join(t.TempDir(), "s")
	cmd := exec.CommandContext(ctx, "ndferry", "serve", "--store", "mem:", "--listen", "unix://"+path, "--drain", "1h", "--driver", driver)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the server did not say that it is ready")
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	var d wire.Decoder
	next := func() wire.Frame {
		t.Helper()
		for buf := make([]byte, 4096); ; {
			f, ok, err := d.Next()
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				return f
			}
			n, err := nc.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			d.Feed(buf[:n])
		}
	}
	say := func(h wire.Header, message any) {
		t.Helper()
		var payload []byte
		if message != nil {
			payload = wire.Encode(message)
		}
		if _, err := nc.Write(wire.AppendFrame(nil, h, payload)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(kind wire.Kind) {
		t.Helper()
		if f := next(); f.Kind != kind {
			t.Fatalf("got %v %s, want %v", f.Kind, f.Payload, kind)
		}
	}
	dt, err := array.ParseDType("|u1")
	if err != nil {
		t.Fatal(err)
	}
	meta := array.Meta{Shape: array.Shape{8}, DType: dt, Cell: array.Shape{8}, DimNames: array.DefaultDimNames("a", 1)}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	say(wire.Header{Kind: wire.Hello, Flags: wire.Critical}, wire.NewHello("test", wire.MaxCredit))
	want(wire.Hello)
	say(wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: 1}, wire.PutMessage{Name: "a", ID: wire.ID{1}, Array: text, NumPy: []byte(`"|u1"`)})
	say(wire.Header{Kind: wire.Ping, Index: 1}, nil)
	want(wire.Pong)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	want(wire.GoAway)
	say(wire.Header{Kind: wire.Ping, Index: 2}, nil)
	want(wire.Pong) // it drains: the transfer is open
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // GOAWAY came after the system's own handling was back, or nearly
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Fatalf("the second signal ended it with %v", err)
			}
			return
		case <-tick.C:
			_ = cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended: Wait tells
		}
	}
}
