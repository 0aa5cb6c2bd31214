package client

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/internal/pace"
	"ndferry/internal/worker"
	"ndferry/store/mem"
	"ndferry/wire"
)

// grantConn is the server's end of a connection: it notes what was granted and what was used of that.
type grantConn struct {
	net.Conn
	mu            sync.Mutex
	in, out       wire.Decoder
	granted, used uint64
	most          uint64 // that was not used, at the end of a cell, when as much as HELLO's credit was
	failed        error
}

func (g *grantConn) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frames(&g.in, p[:n])
	return n, err
}

func (g *grantConn) Write(p []byte) (int, error) {
	g.mu.Lock()
	g.frames(&g.out, p)
	g.mu.Unlock()
	return g.Conn.Write(p)
}

func (g *grantConn) frames(d *wire.Decoder, p []byte) {
	d.Feed(p)
	for {
		f, ok, err := d.Next()
		if err != nil {
			g.failed = err
		}
		if err != nil || !ok {
			return
		}
		switch {
		case f.Kind == wire.Hello && d == &g.in:
			var m wire.HelloMessage
			g.failed = wire.Decode(f.Payload, &m)
			g.granted = m.Credit
		case f.Kind == wire.Credit && d == &g.in:
			g.granted += f.Index
		case f.Kind == wire.Chunk && d == &g.out:
			if g.used += wire.Cost(f.Raw); g.used > wire.FirstCredit { // all of it was written, and may have been granted again
				g.most = max(g.most, g.granted-g.used)
			}
		}
	}
}

// TestGrant gets arrays of cells of 4 MiB, over a link that is said to have no delay: when the first credit is used up the server never has more than
// two cells, whatever the arrays are, and it always goes on; then cells of 16 MiB.
func TestGrant(t *testing.T) {
	const cell = 4 << 20
	st := mem.New(mem.Config{})
	srv := worker.New(st, worker.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	t.Cleanup(func() {
		srv.Shutdown(context.Background())
		st.Close()
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	connect := func() (*Client, *grantConn) {
		near, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		g := &grantConn{Conn: far}
		srv.ServeConn(g)
		c, err := New(t.Context(), near, Config{Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return c, g
	}
	c, g := connect()
	defer c.Close()
	g.mu.Lock()
	first := g.granted
	g.mu.Unlock()
	if _, ok := pace.LinkOf(c.nc)(); ok && first != wire.FirstCredit {
		t.Errorf("HELLO grants %d", first)
	}
	now := time.Unix(1e9, 0)
	c.grants = granting{given: first, window: pace.New(pace.Config{
		First: wire.FirstCredit, Most: wire.MostCredit, Link: func() (time.Duration, bool) { return 0, true },
		Now: func() time.Time { now = now.Add(10 * time.Millisecond); return now },
	})}
	dtype, err := array.ParseDType("|u1")
	if err != nil {
		t.Fatal(err)
	}
	a := Array{DType: dtype, Shape: array.Shape{48 << 20}, Data: make([]byte, 48<<20)}
	rand.NewChaCha8([32]byte{}).Read(a.Data)
	get := func(opts PutOptions) {
		t.Helper()
		if _, err := c.Put(t.Context(), "a", a, opts); err != nil {
			t.Fatal(err)
		}
		b, err := c.Get(t.Context(), "a", GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Data, b.Data) {
			t.Fatal("other bytes")
		}
		if has := c.grants.given - c.grants.came; has < c.grants.cell {
			t.Errorf("%d bytes of credit left behind cells of %d", has, c.grants.cell)
		}
	}
	get(PutOptions{ChunkBytes: cell, Codec: "none"})
	get(PutOptions{ChunkBytes: cell, Codec: "none"})
	g.mu.Lock()
	most, used := g.most, g.used
	g.mu.Unlock()
	if most > 2*cell || used != 96<<20 || g.failed != nil {
		t.Errorf("the server had %d bytes of credit, %d used; %v", most, used, g.failed)
	}
	get(PutOptions{ChunkBytes: cell, Codec: "lz4"})
	get(PutOptions{ChunkBytes: 100_000, Codec: "none"})
	get(PutOptions{ChunkBytes: wire.MaxCell, Codec: "none"})
}
