package worker

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/session"
	"ndferry/store"
	"ndferry/store/mem"
	"ndferry/wire"
)

// TestGateOvertake asks for arrays and does not read: when the socket is full it sends PING. The PONG must come before
// the second cell that was not yet on its way: behind what the kernel holds and the one cell that is being sent.
func TestGateOvertake(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		overtake(t, driver, 1, 1<<20)
		overtake(t, driver, 8, 4<<20)
		overtake(t, driver, 8, wire.MaxCell)
	})
}

func overtake(t *testing.T, driver string, streams, cell int) {
	cells := max(32<<20/cell/streams, 3)
	st := mem.New(mem.Config{})
	srv, addr := serve(t, st, Config{Driver: driver})
	data := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{cells * cell}, Data: varied(cells * cell)}
	if _, err := dial(t, addr).Put(context.Background(), "big", data, client.PutOptions{Cell: array.Shape{cell}}); err != nil {
		t.Fatal(err)
	}
	near, far := sockets(t)
	srv.ServeConn(far)
	p := newPeer(t, near)
	for i := range streams {
		p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Get, Flags: wire.Critical, Stream: uint32(i + 1)}, wire.Encode(wire.GetMessage{Name: "big"})))
	}
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
	t.Logf("%d streams of cells of %d bytes: %d cells came before the PONG", streams, cell, seen)
	if seen > 2 {
		t.Errorf("%d cells came before the PONG", seen)
	}
}

// heldStore is a store whose writes wait until they may.
type heldStore struct {
	store.Store
	open chan struct{}
}

// Instant implements store.Store.
func (s *heldStore) Instant() bool { return false }

// Begin implements store.Store.
func (s *heldStore) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	u, r, err := s.Store.Begin(ctx, spec)
	if u != nil {
		u = heldUpload{u, s.open}
	}
	return u, r, err
}

type heldUpload struct {
	store.Upload
	open chan struct{}
}

// Write implements store.Upload.
func (u heldUpload) Write(ctx context.Context, c store.Cell, data []byte) error {
	<-u.open
	return u.Upload.Write(ctx, c, data)
}

// TestGatePingAmongPuts sends PING behind cells of eight PUTs that the store does not take yet, and only the beginning of the next cell behind
// it: the PONG comes, for it waits neither for the store nor for what comes after it.
func TestGatePingAmongPuts(t *testing.T) { eachDriver(t, pingAmongPuts) }

func pingAmongPuts(t *testing.T, driver string) {
	const streams, cell = 8, 1 << 20
	held := &heldStore{mem.New(mem.Config{}), make(chan struct{})}
	srv, _ := serve(t, held, Config{Driver: driver})
	release := sync.OnceFunc(func() { close(held.open) })
	defer release()
	near, far := sockets(t)
	srv.ServeConn(far)
	p := newPeer(t, near)
	meta := array.Meta{Shape: array.Shape{2 * cell}, DType: dtype(t, "|u1"), Cell: array.Shape{cell}, DimNames: array.DefaultDimNames("a", 1)}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	data := varied(cell)
	chunk := func(stream uint32, i uint64) []byte {
		return wire.AppendFrame(nil, wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: stream, Index: i, Raw: cell}, data)
	}
	for i := range uint32(streams) {
		m := wire.PutMessage{Name: fmt.Sprint("a/", i), ID: wire.ID{byte(i) + 1}, Array: text, NumPy: []byte(`"|u1"`)}
		p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: i + 1}, wire.Encode(m)))
	}
	for i := range uint32(streams) {
		p.send(chunk(i+1, 0))
	}
	for i := range uint32(streams) { // each begins inside of the cell before
		next := chunk(i+1, 1)
		p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: uint64(i)}, nil), next[:cell/2])
		if f := p.answer(); f.Kind != wire.Pong || f.Index != uint64(i) {
			t.Fatalf("PING %d behind %d cells was answered with %v %s", i, streams+i, f.Kind, f.Payload)
		}
		p.send(next[cell/2:])
	}
	release()
	for i := range uint32(streams) {
		p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: i + 1, Index: 2}, nil))
	}
	for got := 0; got < streams; {
		switch f := p.next(); f.Kind {
		case wire.Receipt:
			got++
		case wire.Credit:
		default:
			t.Fatalf("got %v %s, want RECEIPT", f.Kind, f.Payload)
		}
	}
}

// TestGateOutstanding puts eight arrays of cells of 4 MiB over a link of no delay: when the first credit is used up, the server lets its peer have no more
// than two cells of credit, so that a PING waits for no more, and always one. Behind the last PUT any cell may come again.
func TestGateOutstanding(t *testing.T) { eachDriver(t, outstanding) }

func outstanding(t *testing.T, driver string) {
	const streams, cell, cells = 8, 4 << 20, 3
	var ticks atomic.Int64
	begin := time.Now()
	srv, _ := serve(t, mem.New(mem.Config{}), Config{Driver: driver, Session: session.Config{
		Link: func() (time.Duration, bool) { return 0, true },
		Now:  func() time.Time { return begin.Add(time.Duration(ticks.Add(1)) * time.Millisecond) },
	}})
	near, far := sockets(t)
	srv.ServeConn(far)
	p := newPeer(t, near)
	credit, sent := uint64(wire.FirstCredit), uint64(0)
	until := func(kind wire.Kind) {
		for {
			switch f := p.next(); f.Kind {
			case kind:
				return
			case wire.Credit:
				credit += f.Index
			default:
				t.Fatalf("got %v %s, want %v", f.Kind, f.Payload, kind)
			}
		}
	}
	meta := array.Meta{Shape: array.Shape{cells * cell}, DType: dtype(t, "|u1"), Cell: array.Shape{cell}, DimNames: array.DefaultDimNames("a", 1)}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	data := varied(cell)
	for i := range uint32(streams) {
		m := wire.PutMessage{Name: fmt.Sprint("a/", i), ID: wire.ID{byte(i) + 1}, Array: text, NumPy: []byte(`"|u1"`)}
		p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: i + 1}, wire.Encode(m)))
	}
	for i := range uint64(cells) {
		for stream := range uint32(streams) {
			h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: stream + 1, Index: i, Raw: cell}
			p.send(wire.AppendFrame(nil, h, data), wire.AppendFrame(nil, wire.Header{Kind: wire.Ping}, nil))
			credit -= cell
			sent += cell
			until(wire.Pong) // all that was sent has arrived
			if credit < cell || sent >= wire.FirstCredit && credit > 2*cell {
				t.Fatalf("%d bytes of credit behind %d", credit, sent)
			}
		}
	}
	for i := range uint32(streams) {
		p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: i + 1, Index: cells}, nil))
	}
	for range streams {
		until(wire.Receipt)
	}
	p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Ping}, nil))
	until(wire.Pong)
	if credit < wire.FirstCredit-wire.CreditStep {
		t.Errorf("%d bytes of credit behind the last PUT", credit)
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
	eachLimit(t, 200*time.Millisecond, func(limit time.Duration) error { return crowdWithin(t, driver, limit) })
}

func crowdWithin(t *testing.T, driver string, limit time.Duration) error {
	cfg := Config{Driver: driver, Frame: limit}
	cfg.Session.Handshake = limit
	srv, addr := serve(t, mem.New(mem.Config{}), cfg)
	var idle []*peer
	for i := range 300 {
		near, far := sockets(t)
		p := &peer{t: t, nc: near}
		near.SetDeadline(time.Now().Add(patience))
		if i%3 == 0 {
			p.send(hello())
		}
		srv.ServeConn(far)
		switch i % 3 {
		case 0:
			if f := p.next(); f.Kind != wire.Hello {
				t.Fatalf("got %v %s, want HELLO", f.Kind, f.Payload)
			}
			p.ping()
			idle = append(idle, p)
		case 1:
			near.Write([]byte("NDF1"))
			near.Close()
		} // others say nothing
	}
	if err := manyClients(t, addr, 8, 1<<20); err != nil {
		return err
	}
	for _, p := range idle {
		p.ping()
		p.nc.Close()
	}
	settled(t, srv, 0)
	return nil
}
