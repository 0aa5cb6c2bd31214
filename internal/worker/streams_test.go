package worker

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/mem"
)

// TestStreams puts and gets over 1 to 8 connections, with every digest and codec, over every store and driver.
func TestStreams(t *testing.T) {
	audit(t)
	eachDriver(t, func(t *testing.T, driver string) {
		for name, open := range stores {
			t.Run(name, func(t *testing.T) {
				_, addr := serve(t, open(t), Config{Driver: driver})
				for n := 1; n <= 8; n++ {
					for _, opts := range []client.PutOptions{{Codec: "none"}, {Codec: "none", Digest: client.SHA256}, {Codec: "lz4", Digest: client.SHA256}} {
						streamsRound(t, addr, n, opts)
					}
				}
			})
		}
	})
}

func streamsRound(t *testing.T, addr string, n int, opts client.PutOptions) {
	t.Helper()
	c := dial(t, addr)
	ctx := context.Background()
	a := randomArray(t, 1+n*137_000)
	var sent, came atomic.Int64
	opts.Streams, opts.ChunkBytes = n, 64<<10
	opts.Progress = func(done, total int64) { sent.Store(done - total) }
	name := fmt.Sprintf("n%d/%s%s", n, opts.Codec, opts.Digest)
	r, err := c.Put(ctx, name, a, opts)
	if err != nil {
		t.Fatalf("%d streams: %v", n, err)
	}
	if r.Bytes != int64(len(a.Data)) || sent.Load() != 0 {
		t.Errorf("%d streams: %d bytes are stored, progress ended %d before the end", n, r.Bytes, -sent.Load())
	}
	got, err := c.Get(ctx, name, client.GetOptions{Streams: n, Progress: func(done, total int64) { came.Store(done - total) }})
	if err != nil {
		t.Fatalf("%d streams: %v", n, err)
	}
	if !bytes.Equal(got.Data, a.Data) || came.Load() != 0 {
		t.Errorf("%d streams: what comes back is another array, or progress ended before it did", n)
	}
	if v, err := c.Verify(ctx, name, nil); err != nil || v.BadCount > 0 {
		t.Errorf("%d streams: verify: %+v, %v", n, v, err)
	}
}

func randomArray(t testing.TB, size int) client.Array {
	t.Helper()
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(uint64(size), 6))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{size}, Data: data}
}

// TestStreamsBreak cuts connections after random numbers of bytes while arrays go over four of them, both ways. What the client says
// is true: what it put is there, what it got is right.
func TestStreamsBreak(t *testing.T) {
	audit(t)
	eachDriver(t, func(t *testing.T, driver string) {
		for name, open := range stores {
			t.Run(name, func(t *testing.T) {
				_, addr := serve(t, open(t), Config{Driver: driver})
				for seed := range uint64(6) {
					a := randomArray(t, 2<<20+int(seed))
					cut := newCutter(t, addr[len("unix://"):], seed, 12, 1<<20)
					c := dialThrough(t, cut)
					_, err := c.Put(context.Background(), "a", a, client.PutOptions{Streams: 4, Retries: 30, ChunkBytes: 64 << 10, Digest: client.SHA256})
					if err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					got, err := c.Get(context.Background(), "a", client.GetOptions{Streams: 4, Retries: 30})
					if err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					if !bytes.Equal(got.Data, a.Data) {
						t.Errorf("seed %d: what comes back is another array", seed)
					}
					t.Logf("seed %d: %d cuts", seed, cut.cuts.Load())
				}
			})
		}
	})
}

// TestStreamsWithoutRetries cuts connections besides the first: the others carry on, though nothing may be retried.
func TestStreamsWithoutRetries(t *testing.T) {
	audit(t)
	eachDriver(t, func(t *testing.T, driver string) {
		_, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver})
		a := randomArray(t, 4<<20)
		cuts := int64(0)
		for seed := range uint64(8) {
			whole := newCutter(t, addr[len("unix://"):], seed, 0, 1)
			c := dialThrough(t, whole)
			whole.mu.Lock()
			whole.left, whole.most = 3, 512<<10 // of the next three connections
			whole.mu.Unlock()
			r, err := c.Put(t.Context(), "a", a, client.PutOptions{Streams: 4, ChunkBytes: 64 << 10})
			if err != nil || r.Cells != 64 {
				t.Fatalf("seed %d: receipt %+v, error %v", seed, r, err)
			}
			if c.Err() != nil {
				t.Errorf("seed %d: the first connection is closed: %v", seed, c.Err())
			}
			cuts += whole.cuts.Load()
			got, err := c.Get(t.Context(), "a", client.GetOptions{})
			if err != nil || !bytes.Equal(got.Data, a.Data) {
				t.Errorf("seed %d: what comes back is another array: %v", seed, err)
			}
		}
		if cuts < 8 {
			t.Errorf("%d cuts in 8 transfers", cuts)
		}
	})
}

// TestStreamsReplaced replaces an array by another while it is read over several connections: what comes is one of them.
func TestStreamsReplaced(t *testing.T) {
	audit(t)
	eachDriver(t, func(t *testing.T, driver string) {
		for name, open := range stores {
			t.Run(name, func(t *testing.T) {
				_, addr := serve(t, open(t), Config{Driver: driver})
				a, b := randomArray(t, 4<<20), randomArray(t, 4<<20)
				for i := range b.Data {
					b.Data[i] ^= 0xff
				}
				put := func(x client.Array) {
					if _, err := dial(t, addr).Put(t.Context(), "a", x, client.PutOptions{ChunkBytes: 64 << 10}); err != nil {
						t.Fatal(err)
					}
				}
				put(a)
				for at := range 8 { // cells that came before
					c, seen := dial(t, addr), 0
					got, err := c.Get(t.Context(), "a", client.GetOptions{Streams: 4, Retries: 100, Progress: func(int64, int64) {
						if seen++; seen == 1+5*at {
							put([]client.Array{b, a}[at%2])
						}
					}})
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got.Data, a.Data) && !bytes.Equal(got.Data, b.Data) {
						t.Errorf("replaced behind %d cells: a mixture", 1+5*at)
					}
					c.Close()
				}
			})
		}
	})
}

// dialThrough connects through c, which may cut what is tried.
func dialThrough(t testing.TB, cut *cutter) *client.Client {
	t.Helper()
	for range 100 {
		c, err := client.Dial(context.Background(), cut.addr(), client.Config{})
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
	}
	t.Fatal("no connection of 100 stood")
	return nil
}

// TestStreamsElsewhere has the further connections reach another server over another store, as those of one client may reach other
// worker processes: the transfer goes over the connection that it has.
func TestStreamsElsewhere(t *testing.T) {
	audit(t)
	_, here := serve(t, mem.New(mem.Config{}), Config{})
	_, elsewhere := serve(t, mem.New(mem.Config{}), Config{})
	cut := newCutter(t, here[len("unix://"):], 0, 0, 1)
	c := dialThrough(t, cut)
	cut.mu.Lock()
	cut.to = elsewhere[len("unix://"):]
	cut.mu.Unlock()
	a := randomArray(t, 3<<20)
	if _, err := c.Put(context.Background(), "a", a, client.PutOptions{Streams: 4, ChunkBytes: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(context.Background(), "a", client.GetOptions{})
	if err != nil || !bytes.Equal(got.Data, a.Data) {
		t.Errorf("what comes back is another array: %v", err)
	}
	if got, err = c.Get(context.Background(), "a", client.GetOptions{Streams: 4}); err != nil || !bytes.Equal(got.Data, a.Data) {
		t.Errorf("the other connections do not find the array: %v", err)
	}
}
