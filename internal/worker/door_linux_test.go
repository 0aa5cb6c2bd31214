package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"ndferry/store/mem"
	"ndferry/wire"
)

// serveTCP is serve on a port of this host, where the loop itself accepts.
func serveTCP(t *testing.T, cfg Config) (srv *Server, address string, end func()) {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	st := mem.New(mem.Config{})
	srv = New(st, cfg)
	ln, err := Listen(context.Background(), "tcp", "127.0.0.1:0", ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return srv, ln.Addr().String(), serveOn(t, srv, st, ln)
}

// reset makes a connection of TCP end without a word more.
func reset(t *testing.T, nc net.Conn) {
	t.Helper()
	if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
		t.Error(err)
	}
	nc.Close()
}

// TestDoor has clients reset at every byte of HELLO, and end in order without one, between those that transfer: these are served, nothing is
// left of the others, and the end of the server is the end of its port.
func TestDoor(t *testing.T) {
	audit(t)
	srv, address, end := serveTCP(t, Config{Driver: LoopDriver, Loops: 2})
	words := hello()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range words {
				nc, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := nc.Write(words[:n]); err != nil {
					t.Error(err)
				}
				if i == 0 {
					nc.Close()
				} else {
					reset(t, nc)
				}
			}
		})
	}
	budgetClients(t, "tcp://"+address, 4, 1<<20)
	wg.Wait()
	want := uint64(4*len(words) + 4)
	for deadline := time.Now().Add(patience); srv.Accepted() < want; time.Sleep(time.Millisecond) { // the last are in the backlog
		if time.Now().After(deadline) {
			t.Fatalf("%d connections were accepted, want %d", srv.Accepted(), want)
		}
	}
	settled(t, srv, 0)
	srv.mu.Lock()
	for _, d := range srv.loops.all {
		if d.placed != 0 {
			t.Errorf("%d connections are placed on a loop, none is open", d.placed)
		}
	}
	srv.mu.Unlock()
	end()
	if nc, err := net.Dial("tcp", address); err == nil {
		nc.Close()
		t.Error("the port is open after the end")
	}
}

// TestDoor_pieces says HELLO byte by byte, and all at once with what follows.
func TestDoor_pieces(t *testing.T) {
	audit(t)
	_, address, _ := serveTCP(t, Config{Driver: LoopDriver, Loops: 2})
	ping := wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: 1}, nil)
	for _, size := range []int{1, 7, wire.HeaderSize, 1 << 20} {
		for range 2 { // on either loop
			nc, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			p := &peer{t: t, nc: nc}
			nc.SetDeadline(time.Now().Add(patience))
			for part := range slices.Chunk(append(hello(), ping...), size) {
				p.send(part)
			}
			if f := p.next(); f.Kind != wire.Hello {
				t.Errorf("in parts of %d: got %v, want HELLO", size, f.Kind)
			}
			if f := p.next(); f.Kind != wire.Pong {
				t.Errorf("in parts of %d: got %v, want PONG", size, f.Kind)
			}
			nc.Close()
		}
	}
}

// TestDoor_full has as many clients as there may be, and more, who are served when others have gone.
func TestDoor_full(t *testing.T) {
	audit(t)
	const limit = 3
	srv, address, _ := serveTCP(t, Config{Driver: LoopDriver, Loops: 2, Conns: limit})
	var peers []*peer
	for range limit {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, nc)
		p.ping()
		peers = append(peers, p)
	}
	for range 4 { // one comes in each time
		nc, err := net.Dial("tcp", address) // into the backlog
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(hello()); err != nil {
			t.Fatal(err)
		}
		peers[0].ping()
		if n := srv.Connections(); n > limit {
			t.Errorf("%d connections are open, %d may be", n, limit)
		}
		peers[0].nc.Close()
		p := &peer{t: t, nc: nc}
		nc.SetDeadline(time.Now().Add(patience))
		if f := p.next(); f.Kind != wire.Hello {
			t.Fatalf("got %v, want HELLO", f.Kind)
		}
		peers = append(peers[1:], p)
	}
	for _, p := range peers {
		p.nc.Close()
	}
	settled(t, srv, 0)
}

// TestDoor_closing ends the server between those that come: each is served or refused, none is forgotten.
func TestDoor_closing(t *testing.T) {
	for range 20 {
		audit(t)
		_, address, end := serveTCP(t, Config{Driver: LoopDriver, Loops: 2})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					nc, err := net.Dial("tcp", address)
					if err != nil {
						return
					}
					nc.SetDeadline(time.Now().Add(patience))
					nc.Write(hello())
					if _, err := io.ReadFull(nc, make([]byte, wire.HeaderSize)); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("a client was left waiting")
					}
					nc.Close()
				}
			})
		}
		end()
		wg.Wait()
	}
}
