package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/mem"
	"ndferry/wire"
)

// stored serves an array "big" of n cells of 64 KiB.
func stored(t *testing.T, cfg Config, n int) (*Server, string) {
	t.Helper()
	srv, addr := serve(t, mem.New(mem.Config{}), cfg)
	a := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{n << 16}, Data: varied(n << 16)}
	if _, err := dial(t, addr).Put(context.Background(), "big", a, client.PutOptions{Cell: array.Shape{1 << 16}}); err != nil {
		t.Fatal(err)
	}
	return srv, strings.TrimPrefix(addr, "unix://")
}

func getBig() []byte {
	return wire.AppendFrame(nil, wire.Header{Kind: wire.Get, Flags: wire.Critical, Stream: 1}, wire.Encode(wire.GetMessage{Name: "big"}))
}

// TestStall asks for an array. Who takes a little of it at a time gets it all, in many times what a stall may last; who takes nothing
// is closed in the middle.
func TestStall(t *testing.T) { eachDriver(t, stall) }

func stall(t *testing.T, driver string) {
	eachLimit(t, 400*time.Millisecond, func(limit time.Duration) error { return stallWithin(t, driver, limit) })
}

func stallWithin(t *testing.T, driver string, limit time.Duration) error {
	const cells = 32
	_, path := stored(t, Config{Driver: driver, Stall: limit}, cells)
	start := func() net.Conn {
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		newPeer(t, nc).send(getBig())
		return nc
	}
	slow := start()
	began := time.Now()
	piece := make([]byte, 1<<16)
	for total := 0; total < cells<<16; total += len(piece) {
		if _, err := io.ReadFull(slow, piece); err != nil {
			return fmt.Errorf("a slow reader got %d bytes: %w", total, err)
		}
		time.Sleep(limit / 8) // the pace is what is tested
	}
	if took := time.Since(began); took < 3*limit {
		t.Errorf("the slow reader took %v, too little to show anything", took)
	}
	deaf := start()
	deaf.SetReadDeadline(time.Now().Add(patience))
	waitClosed(t, deaf)
	n, err := io.Copy(io.Discard, deaf)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) || n >= cells<<16 { // a reset when the server left a ping of waitClosed unread
		t.Errorf("a deaf reader got %d bytes, then %v", n, err)
	}
	return nil
}

// waitClosed returns when the server has closed: then a write fails.
func waitClosed(t *testing.T, nc net.Conn) {
	t.Helper()
	ping := wire.AppendFrame(nil, wire.Header{Kind: wire.Ping}, nil)
	for deadline := time.Now().Add(patience); ; {
		if _, err := nc.Write(ping); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a reader that takes nothing is not closed")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestControlBudget has one client begin a request that takes all the memory for those; another's waits until it has come, small frames
// do not; and one that is larger than the budget is received when it is alone.
func TestControlBudget(t *testing.T) { eachDriver(t, controlBudget) }

func controlBudget(t *testing.T, driver string) {
	const budget = 32 << 10
	srv, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver, Memory: budget * unreadShare})
	open := func() *peer {
		nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return newPeer(t, nc)
	}
	request := func(name string, id byte, size int) []byte {
		u := newUpload(t, name, id)
		text := `{"a":"` + strings.Repeat("x", size) + `"}`
		u.msg.Attributes = &text
		return u.put(1)
	}
	first, second, third := open(), open(), open()
	whole := request("a", 1, budget) // with its other members one over
	first.send(whole[:len(whole)/2])
	waitUsed(t, srv, budget)
	second.send(request("b", 2, 2*smallFrame), wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: 1}, nil))
	third.ping()
	second.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := second.nc.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a second request is received beside one that takes the whole budget: %d bytes, %v", n, err)
	}
	second.nc.SetReadDeadline(time.Now().Add(patience))
	first.send(whole[len(whole)/2:])
	first.ping()
	if f := second.answer(); f.Kind != wire.Pong {
		t.Errorf("got %v %s", f.Kind, f.Payload)
	}
	if now, peak := srv.unread.Used(); now != 0 || peak > int64(len(whole)) {
		t.Errorf("%d bytes of the budget are in use, %d were", now, peak)
	}
}

func waitUsed(t *testing.T, srv *Server, least int64) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if now, _ := srv.unread.Used(); now >= least {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes were never reserved", least)
		}
	}
}

// TestAnswerQueue asks without end and reads nothing: the server stops reading when its answers are not taken, and answers everything
// when they are.
func TestAnswerQueue(t *testing.T) { eachDriver(t, answerQueue) }

func answerQueue(t *testing.T, driver string) {
	srv, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver})
	nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := newPeer(t, nc)
	frame := wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: 3}, nil)
	many := bytes.Repeat(frame, 512)
	asked := 0
	for end, full := time.Now().Add(patience), false; !full; {
		if time.Now().After(end) {
			t.Fatalf("after %d bytes of questions nothing more is taken, and the connection is not paused", asked)
		}
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := nc.Write(many)
		if asked += n; asked >= 4<<20 { // two sockets' buffers, and the queue
			t.Fatalf("the server read on: %d bytes of questions, and nobody took an answer", asked)
		}
		full = err != nil && (driver != LoopDriver || paused(t, srv)) // else it did not come to them yet
		many = append(bytes.Repeat(frame, 512), frame...)[asked%len(frame):]
	}
	nc.SetDeadline(time.Now().Add(patience))
	go nc.Write(frame[asked%len(frame):]) // the rest of the one that was cut
	for i := range asked/len(frame) + 1 {
		if f := p.next(); f.Kind != wire.Pong {
			t.Fatalf("answer %d is %v %s", i, f.Kind, f.Payload)
		}
	}
}

// paused tells whether the one connection is paused, and sees that it is with as much as the limit says, and one answer over.
func paused(t *testing.T, srv *Server) (is bool) {
	t.Helper()
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for c := range srv.conns {
		lc := c.(*loopConn)
		got := make(chan string, 1)
		_ = lc.d.loop.Post(func() {
			if is = lc.paused; is && lc.answers < answersHigh || lc.answers >= answersHigh+wire.HeaderSize+wire.TrailerSize {
				got <- fmt.Sprintf("paused %v with %d bytes of answers, the limit is %d", lc.paused, lc.answers, answersHigh)
			}
			close(got)
		})
		if problem := <-got; problem != "" {
			t.Error(problem)
		}
	}
	return is
}

// TestShutdownDeaf has a client that takes nothing when the time to drain is over: it does not keep the server for as long as it may
// be deaf otherwise.
func TestShutdownDeaf(t *testing.T) { eachDriver(t, shutdownDeaf) }

func shutdownDeaf(t *testing.T, driver string) {
	srv, path := stored(t, Config{Driver: driver}, 256)
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := newPeer(t, nc)
	p.send(getBig())
	if f := p.next(); f.Kind != wire.Meta {
		t.Fatalf("got %v", f.Kind)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	took := time.Since(began)
	if took >= DefaultStall {
		t.Errorf("a deaf client kept the server for %v", took)
	}
	t.Logf("shut down after %v", took)
}
