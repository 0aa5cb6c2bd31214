package worker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"ndferry/array"
	"ndferry/client"
)

// TestAlike puts and gets small arrays again and again under few names, of which the client knows what to send and what to expect, over a line that damages a third of
// them, and compares everything that it says with what a client says that knows nothing.
func TestAlike(t *testing.T) { eachDriver(t, testAlike) }

func testAlike(t *testing.T, driver string) {
	const seed = 5
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, open(t), Config{Driver: driver})
			line := newDamager(t, addr[len("unix://"):], seed)
			c := dial(t, "unix://"+line.ln.Addr().String())
			rng := rand.New(rand.NewPCG(seed, 1))
			kinds := []struct {
				dtype string
				shape array.Shape
				opts  client.PutOptions
			}{
				{"<f4", array.Shape{1024}, client.PutOptions{}}, {"<f4", array.Shape{32, 32}, client.PutOptions{Relaxed: true}}, {">f8", array.Shape{512}, client.PutOptions{Codec: "none"}},
				{"<f4", array.Shape{1024}, client.PutOptions{Attributes: []byte(`{"id":"0","created":"2026"}`)}}, {"|u1", array.Shape{100}, client.PutOptions{Digest: client.SHA256}},
				{"<f4", array.Shape{1024}, client.PutOptions{Codec: "lz4"}}, {"<f4", array.Shape{64, 16}, client.PutOptions{}},
			}
			kind := kinds[0]
			for i := range 120 {
				if rng.IntN(4) == 0 { // else the same once more
					kind = kinds[rng.IntN(len(kinds))]
				}
				name := fmt.Sprint("a", rng.IntN(2))
				opts := kind.opts
				rng2 := rand.New(rand.NewPCG(seed, uint64(i)))
				for k := range opts.ID {
					opts.ID[k] = byte(rng2.Uint32())
				}
				x := random(t, rng, kind.dtype, kind.shape, nil)
				receipt, err := c.Put(t.Context(), name, x, opts)
				if err != nil {
					t.Fatalf("put %d: %v", i, err)
				}
				fresh := dial(t, addr)
				again, err := fresh.Put(t.Context(), name, x, opts)
				if err != nil || *again != *receipt || receipt.ID != opts.ID {
					t.Errorf("put %d: receipt %+v, asked again %+v, error %v", i, receipt, again, err)
				}
				var stats [3]string
				for k := range 2 { // the second is expected
					sink := &statSink{}
					if _, err := c.GetTo(t.Context(), name, sink, client.GetOptions{}); err != nil || !bytes.Equal(sink.data, x.Data) {
						t.Errorf("get %d: %v", i, err)
					}
					stats[k] = fmt.Sprintf("%+v", sink.stat)
					for axis := range sink.stat.Shape {
						sink.stat.Shape[axis], sink.stat.Chunks[axis] = -1, -1 // the caller's
					}
				}
				st, err := fresh.Stat(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				stats[2] = fmt.Sprintf("%+v", *st)
				if stats[0] != stats[2] || stats[1] != stats[2] {
					t.Errorf("get %d: stat\n%s\n%s\nasked anew\n%s", i, stats[0], stats[1], stats[2])
				}
				got, err := c.Get(t.Context(), name, client.GetOptions{})
				if err != nil || !bytes.Equal(got.Data, x.Data) || !got.Shape.Equal(x.Shape) || !got.DType.Equal(x.DType) {
					t.Errorf("get %d: %v", i, err)
				}
				fresh.Close()
			}
			line.mu.Lock()
			defer line.mu.Unlock()
			if up, down := len(line.damaged["up"]), len(line.damaged["down"]); up < 20 || down < 20 {
				t.Errorf("only %d and %d cells were damaged", up, down)
			}
		})
	}
}

// statSink keeps what it was told.
type statSink struct {
	stat client.Stat
	data []byte
}

func (s *statSink) Begin(st *client.Stat, g array.Grid) error {
	s.stat, s.data = *st, nil
	return nil
}

func (s *statSink) Place(int) []byte { return nil }

func (s *statSink) Cell(i int, data []byte) error {
	s.data = append(s.data, data...)
	return nil
}
