package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/mem"
	"ndferry/wire"
)

// TestAdmission meets each limit of connections, and goes one over.
func TestAdmission(t *testing.T) {
	audit(t)
	a := newAdmission(8, 2)
	enter := func(addr string, want bool) *ticket {
		t.Helper()
		k := a.enter(addr)
		if (k != nil) != want {
			t.Fatalf("from %q: admitted is %v", addr, k != nil)
		}
		return k
	}
	first := enter("192.0.2.1:1", true)
	second := enter("[2001:db8::1%eth0]:2", true)
	enter("192.0.2.2:3", false) // a quarter of all may be strangers
	first.greeted()
	third := enter("192.0.2.1:4", true)
	third.greeted()
	second.greeted()
	enter("[::ffff:192.0.2.1]:5", false) // the third of one address
	fourth := enter("192.0.2.2:5", true)
	for _, local := range []string{"127.0.0.1:1", "[::1]:1", "@", ""} {
		enter(local, true)
	}
	enter("", false) // the ninth
	waited := make(chan bool, 1)
	go func() { waited <- a.wait() }()
	first.leave()
	if !<-waited {
		t.Error("wait ended without a place")
	}
	enter("192.0.2.1:9", true)  // it has one connection left
	enter("192.0.2.3:1", false) // the two strangers have not said HELLO
	fourth.greeted()
	fourth.leave()
	enter("192.0.2.3:1", true)
}

// TestLimitsHelp holds the help text to the constants.
func TestLimitsHelp(t *testing.T) {
	audit(t)
	for _, v := range []any{DefaultHandshake / time.Second, DefaultFrame / time.Second, DefaultStall / time.Minute, DefaultPerAddress} {
		n := fmt.Sprintf("%d", v)
		if !strings.Contains(LimitsHelp, n+" ") {
			t.Errorf("the help of serve does not say %s", n)
		}
	}
	spec, err := os.ReadFile("../../spec/WIRE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("| time to HELLO | %d s |", DefaultHandshake/time.Second),
		fmt.Sprintf("| progress inside a frame, header included | %d KiB in %d s |", progress>>10, DefaultFrame/time.Second),
		fmt.Sprintf("| a peer takes something of what is sent to it | in %d min |", DefaultStall/time.Minute),
		fmt.Sprintf("has waited for its `--drain` | in %d s |", lastWords/time.Second),
		fmt.Sprintf("| answers queued for one connection | %d KiB | reading pauses until %d KiB |", answersHigh>>10, answersLow>>10),
		"| connections of one address that is not loopback | 1,024 |",
		fmt.Sprintf("descriptor limit less an eighth, at least %d", minReserve),
	} {
		if !bytes.Contains(spec, []byte(row)) {
			t.Errorf("spec/WIRE.md §8.1 lacks %q", row)
		}
	}
	if m := DefaultMemory(); m <= 0 || m > maxMemory {
		t.Errorf("memory budget of %d", m)
	}
	if n := DefaultConns(); n < 16 {
		t.Errorf("%d connections", n)
	}
}

// TestConnsLimit fills the server: who comes then waits until another has left.
func TestConnsLimit(t *testing.T) { eachDriver(t, connsLimit) }

func connsLimit(t *testing.T, driver string) {
	_, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver, Conns: 3})
	path := strings.TrimPrefix(addr, "unix://")
	var peers []*peer
	for range 3 {
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		peers = append(peers, newPeer(t, nc))
	}
	over, err := net.Dial("unix", path) // the backlog takes it
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	p := &peer{t: t, nc: over}
	p.send(hello())
	for _, q := range peers {
		q.ping() // they are served as before
	}
	over.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := over.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatal("a fourth of three connections is served")
	}
	peers[1].nc.Close()
	over.SetDeadline(time.Now().Add(patience))
	if f := p.next(); f.Kind != wire.Hello {
		t.Fatalf("got %v after a place was free", f.Kind)
	}
}

// settled waits until the server has n connections.
func settled(t *testing.T, srv *Server, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); srv.Connections() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left, want %d", srv.Connections(), n)
		}
	}
}

// budgetClients has n clients store and fetch size bytes each, at once.
func budgetClients(t *testing.T, addr string, n int, size int) {
	t.Helper()
	if err := manyClients(t, addr, n, size); err != nil {
		t.Error(err)
	}
}

// manyClients is budgetClients that tells what failed.
func manyClients(t *testing.T, addr string, n int, size int) (all error) {
	failed := make(chan error, n)
	for i := range n {
		go func() {
			c, err := client.Dial(context.Background(), addr, client.Config{Timeout: patience})
			if err != nil {
				failed <- err
				return
			}
			defer c.Close()
			a := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{size}, Data: bytes.Repeat([]byte{byte(i + 1)}, size)}
			a.Data[0]++
			name := fmt.Sprintf("a%d", i)
			if _, err = c.Put(context.Background(), name, a, client.PutOptions{ChunkBytes: 64 << 10}); err == nil {
				var b *client.Array
				if b, err = c.Get(context.Background(), name, client.GetOptions{}); err == nil && !bytes.Equal(a.Data, b.Data) {
					err = fmt.Errorf("%s came back different", name)
				}
			}
			failed <- err
		}()
	}
	for range n {
		all = errors.Join(all, <-failed)
	}
	return all
}

// TestGateMemoryBudget has more clients than there is memory for: all finish, and the budget holds.
func TestGateMemoryBudget(t *testing.T) { eachDriver(t, memoryBudget) }

func memoryBudget(t *testing.T, driver string) {
	const budget = 512 << 10 // eight cells, for sixteen clients
	srv, addr := serve(t, stores["dir"](t), Config{Driver: driver, Memory: budget})
	budgetClients(t, addr, 16, 1<<20)
	deadline := time.Now().Add(patience)
	for {
		now, peak := srv.pool.Used()
		if driver == LoopDriver && peak > budget+bulkWorkers*(64<<10) {
			t.Fatalf("%d bytes were taken of %d", peak, budget)
		}
		if now == 0 {
			t.Logf("%d bytes of %d were taken", peak, budget)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes were not given back", now)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestHeaderTrickle ends a header that does not come, and lets a client be idle for longer than a frame may take.
func TestHeaderTrickle(t *testing.T) { eachDriver(t, headerTrickle) }

func headerTrickle(t *testing.T, driver string) {
	_, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver, Frame: 30 * time.Millisecond})
	nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := newPeer(t, nc)
	time.Sleep(100 * time.Millisecond) // idle, more than three times as long as a frame may take
	p.ping()
	p.send([]byte("NDF1"))
	p.wantError(wire.CodeDeadline)
	p.wantEnd()
}
