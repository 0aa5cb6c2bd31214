//go:build linux || darwin || freebsd

package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echoRun is a running ndferry echo.
type echoRun struct {
	addr string
	log  *sharedBuffer
	stop context.CancelFunc // as SIGTERM does
	code chan int
}

type sharedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sharedBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sharedBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func startEcho(t *testing.T, args ...string) *echoRun {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e := &echoRun{log: &sharedBuffer{}, stop: cancel, code: make(chan int, 1)}
	r, w := io.Pipe()
	go func() {
		e.code <- run(ctx, append([]string{"echo", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), w, e.log, func(string) (string, bool) { return "", false })
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("no listening line: %v; %s", err, e.log)
	}
	e.addr = strings.TrimPrefix(strings.TrimSpace(line), "listening on tcp://")
	t.Cleanup(func() {
		cancel()
		select {
		case code := <-e.code:
			if code != ExitOK {
				t.Errorf("exit code %d", code)
			}
		case <-time.After(patience):
			t.Error("echo does not end")
		}
	})
	return e
}

func (e *echoRun) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func (e *echoRun) waitLog(t *testing.T, part string, n int) {
	t.Helper()
	for end := time.Now().Add(patience); strings.Count(e.log.String(), part) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log has no %d lines with %q:\n%s", n, part, e.log)
		}
	}
}

func TestEcho_linesHoweverCut(t *testing.T) {
	text := "plain\n\n\r\nCRLF line\r\n\xff\xfe not UTF-8 \x80\nnul\x00byte\nä spans\nincomplete rest"
	want := text[:strings.LastIndex(text, "\n")+1]
	e := startEcho(t, "--lines", "--drain", "100ms")
	for _, cut := range []int{1, 2, 3, 5, 7, len(text)} {
		c := e.dial(t)
		for rest := []byte(text); len(rest) > 0; rest = rest[min(cut, len(rest)):] {
			if _, err := c.Write(rest[:min(cut, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || string(got) != want {
			t.Fatalf("cut in %d: got %q, %v", cut, got, err)
		}
	}
	e.waitLog(t, "client left", 6)
}

func TestEcho_lineLimit(t *testing.T) {
	e := startEcho(t, "--lines", "--max-line", "100", "--drain", "100ms")
	c := e.dial(t)
	fits := strings.Repeat("x", 100) + "\n"
	if _, err := io.WriteString(c, fits); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(fits))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != fits {
		t.Fatalf("a line at the limit: %q, %v", got, err)
	}
	_, _ = io.WriteString(c, strings.Repeat("x", 101))
	if n, err := c.Read(got); err == nil {
		t.Fatalf("a line over the limit was answered with %d bytes", n)
	}
	e.waitLog(t, "message too long", 1)
}

func TestEcho_signals(t *testing.T) {
	for _, drain := range []string{"200ms", "2s", "20s"} { // one that this test is not held up for
		if err := echoSignals(t, drain); err == nil {
			return
		} else if t.Logf("drained in %s: %v", drain, err); drain == "20s" {
			t.Fatal(err)
		}
	}
}

func echoSignals(t *testing.T, drain string) error {
	e := startEcho(t, "--loops", "2", "--drain", drain)
	clients := []*net.TCPConn{e.dial(t), e.dial(t), e.dial(t)}
	for _, c := range clients {
		_, _ = c.Write([]byte("hello"))
		got := make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	e.waitLog(t, "client connected", 3)
	e.stop()
	_, _ = clients[0].Write([]byte("still")) // drains: clients are served on
	got := make([]byte, 5)
	if _, err := io.ReadFull(clients[0], got); err != nil {
		return fmt.Errorf("while draining: %w", err)
	}
	clients[0].Close()
	if _, err := clients[1].Read(got); err == nil || os.IsTimeout(err) {
		t.Fatalf("a client was left open after the drain: %v", err)
	}
	e.waitLog(t, "client left", 3)
	if !strings.Contains(e.log.String(), "bytes_in=10") || !strings.Contains(e.log.String(), "duration=") {
		t.Fatalf("the log has no bytes or no duration:\n%s", e.log)
	}
	return nil
}

func TestEcho_maxConns(t *testing.T) {
	e := startEcho(t, "--max-conns", "2", "--drain", "100ms")
	a, b, c := e.dial(t), e.dial(t), e.dial(t)
	got := make([]byte, 1)
	for _, conn := range []net.Conn{a, b} {
		_, _ = conn.Write([]byte("x"))
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = c.Write([]byte("x"))
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(got); n > 0 || err == nil {
		t.Fatal("a third client was served at a limit of two")
	}
	a.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("the third client waits although one left: %v", err)
	}
}

func TestEcho_usage(t *testing.T) {
	for _, args := range [][]string{{"--backend", "nosuch"}, {"--loops", "0"}, {"--max-line", "0"}, {"--max-conns", "-1"}} {
		var out bytes.Buffer
		code := run(context.Background(), append([]string{"echo", "--listen", "127.0.0.1:0"}, args...), nil, &out, &out, func(string) (string, bool) { return "", false })
		if code != ExitUsage {
			t.Errorf("%v: exit code %d: %s", args, code, &out)
		}
	}
}
