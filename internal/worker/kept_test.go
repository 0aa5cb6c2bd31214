package worker

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/wire"
)

// gatedStore is a store of which writes wait at a gate.
type gatedStore struct {
	store.Store
	gate   chan struct{}
	opened sync.Once
	begun  atomic.Int64
	passed atomic.Int64
}

func (s *gatedStore) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	u, r, err := s.Store.Begin(ctx, spec)
	if u != nil {
		u = gatedUpload{u, s}
	}
	return u, r, err
}

type gatedUpload struct {
	store.Upload
	s *gatedStore
}

func (u gatedUpload) Write(ctx context.Context, cell store.Cell, data []byte) error {
	u.s.begun.Add(1)
	<-u.s.gate
	err := u.Upload.Write(ctx, cell, data)
	if err == nil {
		u.s.passed.Add(1)
	}
	return err
}

// open lets all writes pass.
func (s *gatedStore) open() { s.opened.Do(func() { close(s.gate) }) }

const keptCells = 16

// keptUpload is a put of 16 cells, resumable.
func keptUpload(t *testing.T, digest string) *upload {
	u := newUpload(t, "a", 9)
	meta := array.Meta{Shape: array.Shape{2 * keptCells, 8}, DType: dtype(t, "|u1"), Cell: array.Shape{2, 8}, DimNames: array.DefaultDimNames("a", 2)}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	u.msg.Array, u.msg.Resume, u.msg.Digest = text, true, digest
	for i := range u.cells[1] {
		u.cells[1][i] = byte(i) // no padding
	}
	return u
}

// accepted sends a PUT and returns what ACCEPT says.
func accepted(t *testing.T, addr string, u *upload) (*peer, string) {
	t.Helper()
	nc, err := net.Dial("unix", addr[len("unix://"):])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	p := newPeer(t, nc)
	p.send(u.put(1))
	for {
		f := p.next()
		if f.Kind == wire.Accept {
			var m wire.AcceptMessage
			if err := wire.Decode(f.Payload, &m); err != nil {
				t.Fatal(err)
			}
			return p, fmt.Sprint(m.Durable)
		}
		if f.Kind == wire.Fail || f.Kind == 0 {
			t.Fatalf("%v before ACCEPT: %s", f.Kind, f.Payload)
		}
	}
}

// gone waits until the server knows that n of its connections have broken.
func gone(t *testing.T, srv *Server, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		srv.mu.Lock()
		var conns []driven
		for c := range srv.conns {
			conns = append(conns, c)
		}
		srv.mu.Unlock()
		dead := 0
		for _, c := range conns {
			is := make(chan bool, 1)
			switch c := c.(type) {
			case *conn:
				c.mu.Lock()
				is <- c.dead
				c.mu.Unlock()
			case *loopConn:
				if c.d.loop.Post(func() { is <- c.dead }) != nil {
					is <- true
				}
			}
			if <-is {
				dead++
			}
		}
		if dead >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d connections have broken", dead, n)
		}
	}
}

// TestQueuedCellsAreKept breaks a connection while whole cells wait to be written: they are, and the client is told so when it asks again.
func TestQueuedCellsAreKept(t *testing.T) { eachDriver(t, testQueuedCellsAreKept) }

func testQueuedCellsAreKept(t *testing.T, driver string) {
	for _, digest := range []string{"crc32c", "sha256"} {
		t.Run(digest, func(t *testing.T) {
			inner, err := dir.Open(filepath.Join(t.TempDir(), "store"), dir.Config{})
			if err != nil {
				t.Fatal(err)
			}
			st := &gatedStore{Store: inner, gate: make(chan struct{})}
			srv, addr := serve(t, st, Config{Driver: driver})
			t.Cleanup(st.open)
			u := keptUpload(t, digest)
			p, durable := accepted(t, addr, u)
			if durable != "[]" {
				t.Errorf("ACCEPT of a new transfer: %s", durable)
			}
			for i := range keptCells - 1 {
				p.send(u.chunk(1, i))
			}
			p.ping() // all were read
			if n := st.begun.Load(); n > 2 {
				t.Fatalf("%d cells are being written at once", n)
			}
			p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: 2}, nil))
			if _, err := p.nc.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			p.nc.Close() // with the rest of PONG unread: a reset
			gone(t, srv, 1)
			st.open()
			if _, durable = accepted(t, addr, u); durable != fmt.Sprintf("[[0 %d]]", keptCells-1) {
				t.Errorf("asked again: durable %s of %d cells that had come; %d were written", durable, keptCells-1, st.passed.Load())
			}
		})
	}
}

// TestForcedStopKeeps stops a server for good while cells are being written: what was durable stays.
func TestForcedStopKeeps(t *testing.T) { eachDriver(t, testForcedStopKeeps) }

func testForcedStopKeeps(t *testing.T, driver string) {
	place := filepath.Join(t.TempDir(), "store")
	inner, err := dir.Open(place, dir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	st := &gatedStore{Store: inner, gate: make(chan struct{}, 4)}
	for range 4 {
		st.gate <- struct{}{}
	}
	srv := New(st, Config{Driver: driver})
	t.Cleanup(st.open)
	near, far := sockets(t)
	srv.ServeConn(far)
	p := newPeer(t, near)
	u := keptUpload(t, "crc32c")
	p.send(u.put(1))
	for f := p.next(); f.Kind != wire.Accept; f = p.next() {
		if f.Kind == wire.Fail || f.Kind == 0 {
			t.Fatalf("%v before ACCEPT: %s", f.Kind, f.Payload)
		}
	}
	for i := range keptCells - 1 {
		p.send(u.chunk(1, i))
	}
	p.ping()
	for st.passed.Load() < 4 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	stopped := make(chan error)
	go func() { stopped <- srv.Shutdown(ctx) }()
	<-srv.ctx.Done()
	st.open()
	if err := <-stopped; err != context.Canceled {
		t.Errorf("shutdown: %v", err)
	}
	if err := inner.Close(); err != nil {
		t.Fatal(err)
	}
	if inner, err = dir.Open(place, dir.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	_, addr := serve(t, inner, Config{Driver: driver})
	_, durable := accepted(t, addr, u)
	var first, count int
	if _, err := fmt.Sscanf(durable, "[[%d %d]]", &first, &count); err != nil || first != 0 || count < 4 {
		t.Errorf("after the stop %s is durable, the first four cells were written before it", durable)
	}
}
