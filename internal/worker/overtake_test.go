package worker

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/mem"
	"ndferry/wire"
)

// TestGateOvertake asks for an array and does not read: when the socket is full it sends PING. The PONG must come before
// the second cell that was not yet on its way: behind what the kernel holds and the one cell that is being sent.
func TestGateOvertake(t *testing.T) { eachDriver(t, overtake) }

func overtake(t *testing.T, driver string) {
	const cell, cells = 1 << 20, 32
	st := mem.New(mem.Config{})
	srv, addr := serve(t, st, Config{Driver: driver})
	data := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{cells * cell}, Data: varied(cells * cell)}
	if _, err := dial(t, addr).Put(context.Background(), "big", data, client.PutOptions{Cell: array.Shape{cell}}); err != nil {
		t.Fatal(err)
	}
	near, far := sockets(t)
	srv.ServeConn(far)
	p := newPeer(t, near)
	p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Get, Flags: wire.Critical, Stream: 1}, wire.Encode(wire.GetMessage{Name: "big"})))
	one := make([]byte, 1)
	if _, err := io.ReadFull(near, one); err != nil { // the answer has begun
		t.Fatal(err)
	}
	p.d.Feed(one)
	p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: 7}, nil))
	seen := 0
	for {
		f := p.next()
		switch f.Kind {
		case wire.Chunk:
			seen++
			continue
		case wire.Meta:
			continue
		case wire.Pong:
		default:
			t.Fatalf("got %v %s", f.Kind, f.Payload)
		}
		break
	}
	if seen > 2 {
		t.Errorf("%d cells came before the PONG", seen)
	}
}

// TestGateNeighbours has eight clients store without end, and one that asks: it is answered many times in the time of
// few of their cells, whoever is driven by what.
func TestGateNeighbours(t *testing.T) { eachDriver(t, neighbours) }

func neighbours(t *testing.T, driver string) {
	_, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver})
	ctx, cancel := context.WithCancel(context.Background())
	ended, begun := make(chan error, 8), make(chan bool, 8)
	for i := range 8 {
		c := dial(t, addr)
		go func() {
			var err error
			a := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{8 << 20}, Data: varied(8 << 20)}
			for err == nil {
				_, err = c.Put(ctx, fmt.Sprint("bulk/", i), a, client.PutOptions{ChunkBytes: 1 << 20})
				select {
				case begun <- true:
				default:
				}
			}
			if ctx.Err() != nil {
				err = nil
			}
			ended <- err
		}()
	}
	for range 8 {
		<-begun
	}
	c := dial(t, addr)
	var worst time.Duration
	for range 50 {
		begin := time.Now()
		if _, err := c.List(ctx, ""); err != nil {
			t.Error(err)
			break
		}
		worst = max(worst, time.Since(begin))
	}
	cancel()
	for range 8 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Logf("the slowest of 50 lists took %v", worst)
}

// TestGateCrowd has idle clients, resetting ones and silent ones beside honest transfers: those finish, all descriptors come back.
func TestGateCrowd(t *testing.T) { eachDriver(t, crowd) }

func crowd(t *testing.T, driver string) {
	cfg := Config{Driver: driver, Frame: 50 * time.Millisecond}
	cfg.Session.Handshake = 50 * time.Millisecond
	srv, addr := serve(t, mem.New(mem.Config{}), cfg)
	var idle []net.Conn
	for i := range 300 {
		near, far := sockets(t)
		srv.ServeConn(far)
		switch i % 3 {
		case 0:
			newPeer(t, near).ping()
			idle = append(idle, near)
		case 1:
			near.Write([]byte("NDF1"))
			near.Close()
		} // others say nothing
	}
	budgetClients(t, addr, 8, 1<<20)
	for _, nc := range idle {
		(&peer{t: t, nc: nc}).ping()
		nc.Close()
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		srv.mu.Lock()
		n := len(srv.conns)
		srv.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", n)
		}
		time.Sleep(time.Millisecond)
	}
}
