package worker

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/wire"
)

// cutter hands connections on to a server and cuts each after a random number of bytes from the client, or from the server.
type cutter struct {
	ln   net.Listener
	up   atomic.Int64 // bytes from clients
	down atomic.Int64
	cuts atomic.Int64

	mu   sync.Mutex
	rng  *rand.Rand // guarded by mu
	left int        // guarded by mu: cuts to make
	to   string     // guarded by mu
	most int64      // bytes before a cut, at most
	done sync.WaitGroup
}

func newCutter(t testing.TB, to string, seed uint64, cuts int, most int64) *cutter {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "cut"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{ln: ln, to: to, rng: rand.New(rand.NewPCG(seed, 0)), left: cuts, most: most}
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c.done.Add(1)
			go func() { defer c.done.Done(); c.pass(nc) }()
		}
	}()
	t.Cleanup(func() { ln.Close(); c.done.Wait() })
	return c
}

func (c *cutter) addr() string { return "unix://" + c.ln.Addr().String() }

func (c *cutter) pass(nc net.Conn) {
	defer nc.Close()
	c.mu.Lock()
	to := c.to
	c.mu.Unlock()
	server, err := net.Dial("unix", to)
	if err != nil {
		return
	}
	defer server.Close()
	c.mu.Lock()
	limit := int64(1) << 60
	if c.left > 0 {
		c.left--
		limit = c.rng.Int64N(c.most)
	}
	c.mu.Unlock()
	var budget atomic.Int64
	budget.Store(limit)
	ends := make(chan struct{}, 2)
	move := func(dst, src net.Conn, count *atomic.Int64) {
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			if left := budget.Add(-int64(n)); left < 0 {
				n = int(max(0, int64(n)+left))
				err = io.ErrUnexpectedEOF
				c.cuts.Add(1)
			}
			dst.Write(buf[:n])
			count.Add(int64(n))
			if err != nil {
				ends <- struct{}{}
				return
			}
		}
	}
	go move(server, nc, &c.up)
	go move(nc, server, &c.down)
	<-ends
	nc.Close()
	server.Close()
	<-ends
}

// counting is a source that counts how often each cell was read.
type counting struct {
	client.Array
	reads map[int]int
}

func (s *counting) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	s.reads[i]++
	return s.Array.Cell(g, i, buf)
}

// TestResumeAfterCuts cuts puts and gets again and again: what arrives is right, and little is sent twice.
func TestResumeAfterCuts(t *testing.T) { eachDriver(t, testResumeAfterCuts) }

func testResumeAfterCuts(t *testing.T, driver string) {
	const seed, cuts, size = 7, 6, 24 << 20
	for name, open := range stores {
		for _, mode := range [][2]string{{client.CRC32C, "none"}, {client.SHA256, "none"}, {client.SHA256, "lz4"}} {
			digest, codec := mode[0], mode[1]
			t.Run(name+"/"+digest+"/"+codec, func(t *testing.T) {
				_, addr := serve(t, open(t), Config{Driver: driver})
				x := random(t, rand.New(rand.NewPCG(seed, 1)), "|u1", array.Shape{size / 4096, 4096}, nil)
				cut := newCutter(t, addr[len("unix://"):], seed, cuts, size/2)
				c := dial(t, cut.addr())
				src := &counting{Array: x, reads: map[int]int{}}
				r, err := c.PutFrom(t.Context(), "a", src, client.PutOptions{ChunkBytes: 256 << 10, Digest: digest, Codec: codec, Retries: 20})
				if err != nil {
					t.Fatal(err)
				}
				sent, n := cut.up.Load(), cut.cuts.Load()
				if n < 1 {
					t.Errorf("put: nothing was cut")
				}
				// A cut loses what was under way in buffers of sockets, and what waited for its turn to be written; the checkpoint at the
				// end of the connection keeps the rest.
				if most := int64(size + (n+1)*4<<20); sent > most {
					t.Errorf("put: %d bytes sent for %d after %d cuts, at most %d were expected", sent, size, n, most)
				}
				again, err := c.Put(t.Context(), "a", x, client.PutOptions{ID: r.ID, ChunkBytes: 256 << 10, Digest: digest, Codec: codec, Retries: 20})
				if err != nil || *again != *r {
					t.Errorf("asked again: receipt %+v, error %v; it was %+v", again, err, r)
				}
				cut = newCutter(t, addr[len("unix://"):], seed+1, cuts, size/2)
				c = dial(t, cut.addr())
				got, err := c.Get(t.Context(), "a", client.GetOptions{Retries: 20})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Data, x.Data) {
					t.Error("get: other bytes")
				}
				received, m := cut.down.Load(), cut.cuts.Load()
				if m < 1 || received > size+(m+1)*4<<20 {
					t.Errorf("get: %d bytes for %d after %d cuts", received, size, m)
				}
				t.Logf("resume %s %s: tried=%d reached=%d injected=%d failed=0 seed=%d (sent %.3f, received %.3f of the array)",
					name, digest, 2*cuts, n+m, n+m, seed, float64(sent)/size, float64(received)/size)
			})
		}
	}
}

// TestRetriesEnd lets every connection fail: the call ends after its retries, and names the cause.
func TestRetriesEnd(t *testing.T) { eachDriver(t, testRetriesEnd) }

func testRetriesEnd(t *testing.T, driver string) {
	_, addr := serve(t, stores["mem"](t), Config{Driver: driver})
	cut := newCutter(t, addr[len("unix://"):], 1, 1000, 1)
	if _, err := client.Dial(t.Context(), cut.addr(), client.Config{}); err == nil {
		t.Fatal("connected through a cut line")
	}
	whole := newCutter(t, addr[len("unix://"):], 1, 0, 1)
	c := dial(t, whole.addr())
	x := random(t, rand.New(rand.NewPCG(1, 1)), "|u1", array.Shape{1 << 20}, nil)
	whole.mu.Lock()
	whole.left, whole.most = 1000, 1
	whole.mu.Unlock()
	c.Close()
	if _, err := c.Put(t.Context(), "a", x, client.PutOptions{Retries: 2}); err == nil {
		t.Error("a closed client connected again by itself")
	}
}

// TestNewestConnectionWins leaves a put half done on a connection that nobody closes, and asks again with its id.
func TestNewestConnectionWins(t *testing.T) { eachDriver(t, testNewestConnectionWins) }

func testNewestConnectionWins(t *testing.T, driver string) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, open(t), Config{Driver: driver})
			u := newUpload(t, "a", 9)
			u.msg.Resume = true
			begin := func() (*peer, wire.AcceptMessage) {
				nc, err := net.Dial("unix", addr[len("unix://"):])
				if err != nil {
					t.Fatal(err)
				}
				p := newPeer(t, nc)
				p.send(u.put(1))
				for {
					f := p.next()
					if f.Kind == wire.Accept {
						var m wire.AcceptMessage
						if err := wire.Decode(f.Payload, &m); err != nil {
							t.Fatal(err)
						}
						return p, m
					}
					if f.Kind == wire.Fail || f.Kind == 0 {
						t.Fatalf("%v before ACCEPT: %s", f.Kind, f.Payload)
					}
				}
			}
			old, m := begin()
			if len(m.Durable) > 0 {
				t.Errorf("ACCEPT of a new transfer: %v", m.Durable)
			}
			old.send(u.chunk(1, 1))
			old.ping() // it was read
			fresh, m := begin()
			if got := fmt.Sprint(m.Durable); got != "[[1 1]]" {
				t.Errorf("durable %s, the older connection sent cell 1", got)
			}
			old.wantEnd()
			fresh.send(u.chunk(1, 0), u.finish(1))
			for {
				f := fresh.next()
				if f.Kind == wire.Receipt {
					break
				}
				if f.Kind != wire.Credit && f.Kind != wire.Ack {
					t.Fatalf("%v: %s", f.Kind, f.Payload)
				}
			}
		})
	}
}

// TestDamagedCellIsAskedAgain sends a damaged cell of a resumable put: it is refused, and the others stay.
func TestDamagedCellIsAskedAgain(t *testing.T) { eachDriver(t, testDamagedCellIsAskedAgain) }

func testDamagedCellIsAskedAgain(t *testing.T, driver string) {
	_, addr := serve(t, stores["dir"](t), Config{Driver: driver})
	u := newUpload(t, "a", 9)
	u.msg.Resume = true
	nc, err := net.Dial("unix", addr[len("unix://"):])
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nc)
	bad := u.chunk(1, 1)
	bad[wire.HeaderSize] ^= 1
	p.send(u.put(1))
	durable := "[[0 1]]"
	for seen := 0; seen < 2; {
		switch f := p.next(); f.Kind {
		case wire.Accept:
			if seen++; seen == 1 {
				p.send(u.chunk(1, 0), bad)
			} else {
				if got := wire.Decode(f.Payload, new(wire.AcceptMessage)); got != nil || !bytes.Contains(f.Payload, []byte("[0,1]")) {
					t.Errorf("ACCEPT %s, want %s", f.Payload, durable)
				}
			}
		case 0:
			t.Fatal("the server closed")
		case wire.Fail:
			var e wire.Failure
			if err := wire.Decode(f.Payload, &e); err != nil || e.Code != wire.CodeIntegrity || !e.Retryable || e.Cell == nil || *e.Cell != 1 {
				t.Fatalf("ERROR %s", f.Payload)
			}
			p.send(u.put(2))
		}
	}
	p.send(u.chunk(2, 1), u.finish(2))
	for f := p.next(); f.Kind != wire.Receipt; f = p.next() {
		if f.Kind == wire.Fail || f.Kind == 0 {
			t.Fatalf("ERROR %s", f.Payload)
		}
	}
}
