package worker

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/wire"
)

// damager hands connections on to a server, frame by frame, and damages the payload of a third of the CHUNKs.
type damager struct {
	ln   net.Listener
	to   string
	done sync.WaitGroup

	mu      sync.Mutex
	rng     *rand.Rand          // guarded by mu
	came    map[string][]uint64 // guarded by mu; cells of CHUNKs, "up" and "down"
	damaged map[string][]uint64 // guarded by mu; those of them that were damaged
}

func newDamager(t testing.TB, to string, seed uint64) *damager {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "damage"))
	if err != nil {
		t.Fatal(err)
	}
	d := &damager{ln: ln, to: to, rng: rand.New(rand.NewPCG(seed, 0)), came: map[string][]uint64{}, damaged: map[string][]uint64{}}
	d.done.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			d.done.Go(func() { d.pass(nc) })
		}
	})
	t.Cleanup(func() { ln.Close(); d.done.Wait() })
	return d
}

func (d *damager) pass(nc net.Conn) {
	server, err := net.Dial("unix", d.to)
	if err != nil {
		nc.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { d.move("up", server, nc); server.Close() })
	both.Go(func() { d.move("down", nc, server); nc.Close() })
	both.Wait()
}

func (d *damager) move(way string, dst io.Writer, src io.Reader) {
	head := make([]byte, wire.HeaderSize)
	for {
		if _, err := io.ReadFull(src, head); err != nil {
			return
		}
		h, err := wire.ParseHeader(head)
		if err != nil {
			return
		}
		rest := make([]byte, h.Size()-wire.HeaderSize)
		if _, err := io.ReadFull(src, rest); err != nil {
			return
		}
		if h.Kind == wire.Chunk {
			d.damage(way, h, rest[:h.Length])
		}
		if _, err := dst.Write(append(head[:wire.HeaderSize:wire.HeaderSize], rest...)); err != nil {
			return
		}
	}
}

// damage flips a bit or swaps two words that differ.
func (d *damager) damage(way string, h wire.Header, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came[way] = append(d.came[way], h.Index)
	if d.rng.IntN(3) > 0 {
		return
	}
	d.damaged[way] = append(d.damaged[way], h.Index)
	i, j := d.rng.IntN(len(p)/2)*2, d.rng.IntN(len(p)/2)*2
	if bytes.Equal(p[i:i+2], p[j:j+2]) {
		p[i] ^= 1 << d.rng.IntN(8)
		return
	}
	p[i], p[i+1], p[j], p[j+1] = p[j], p[j+1], p[i], p[i+1]
}

// TestResend stores and fetches over a line that damages a third of all cells: each damage is found, exactly the damaged cells travel
// again, and nothing else is noticed.
func TestResend(t *testing.T) { eachDriver(t, testResend) }

func testResend(t *testing.T, driver string) {
	const seed = 3
	for name, open := range stores {
		for _, mode := range []struct {
			codec, digest string
			cell          int
			resume        bool
		}{{"none", client.CRC32C, 3000, false}, {"none", client.SHA256, 300 << 10, false}, {"lz4", client.SHA256, 300 << 10, true}} {
			t.Run(name+"/"+mode.codec+"/"+mode.digest, func(t *testing.T) {
				_, addr := serve(t, open(t), Config{Driver: driver})
				cells := 2<<20/mode.cell + 1
				x := smooth(random(t, rand.New(rand.NewPCG(seed, 1)), "|u1", array.Shape{cells*mode.cell - 5}, nil))
				line := newDamager(t, addr[len("unix://"):], seed)
				c := dial(t, "unix://"+line.ln.Addr().String())
				opts := client.PutOptions{Cell: array.Shape{mode.cell}, Digest: mode.digest, Codec: mode.codec, Resume: mode.resume}
				if _, err := c.Put(t.Context(), "a", x, opts); err != nil {
					t.Fatal(err)
				}
				got, err := c.Get(t.Context(), "a", client.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Data, x.Data) {
					t.Error("other bytes came back")
				}
				if cells < 100 { // a stream takes cells in order alone
					var stream bytes.Buffer
					other := newDamager(t, addr[len("unix://"):], seed+1)
					c := dial(t, "unix://"+other.ln.Addr().String())
					if _, err := c.GetTo(t.Context(), "a", &client.NPYWriter{W: &stream}, client.GetOptions{}); err != nil || !bytes.HasSuffix(stream.Bytes(), x.Data) {
						t.Errorf("get in order: %v", err)
					}
				}
				line.mu.Lock()
				defer line.mu.Unlock()
				for _, way := range []string{"up", "down"} {
					want := map[uint64]int{}
					for i := range cells {
						want[uint64(i)] = 1
					}
					for _, i := range line.damaged[way] {
						want[i]++
					}
					for _, i := range line.came[way] {
						want[i]--
					}
					for i, n := range want {
						if n != 0 {
							t.Errorf("%s: cell %d travelled %d times too seldom", way, i, n)
						}
					}
					if len(line.damaged[way]) < cells/10 {
						t.Errorf("%s: only %d of %d cells were damaged", way, len(line.damaged[way]), cells)
					}
				}
				t.Logf("resend: tried=%d reached=%d injected=%d failed=0 seed=%d", 2*cells, len(line.came["up"])+len(line.came["down"]), len(line.damaged["up"])+len(line.damaged["down"]), seed)
			})
		}
	}
}
