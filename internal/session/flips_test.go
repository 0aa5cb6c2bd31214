package session

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"testing"

	"ndferry/store/mem"
	"ndferry/wire"
)

var (
	flipCount = flag.Int("flips", 100_000, "bits of payloads of CHUNK that TestFlips turns")
	swapCount = flag.Int("swaps", 10_000, "pairs of 16-bit words of payloads of CHUNK that TestFlips swaps")
	flipSeed  = flag.Uint64("flip-seed", 1, "seed of TestFlips")
)

// framesOf splits a stream.
func framesOf(t *testing.T, stream []byte) (frames [][]byte) {
	for len(stream) > 0 {
		h, err := wire.ParseHeader(stream)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, stream[:h.Size()])
		stream = stream[h.Size():]
	}
	return frames
}

// accepts tells that bytes pass for a whole frame.
func accepts(frame []byte) bool {
	var d wire.Decoder
	d.Feed(frame)
	f, ok, err := d.Next()
	return ok && err == nil && f.Status == wire.Whole
}

// TestFlipsOfControlStream turns every bit of a recorded conversation, both ways, and cuts it at every length: no frame that was changed passes
// for one.
func TestFlipsOfControlStream(t *testing.T) {
	r := newRig(t, mem.New(mem.Config{}))
	sent := conversation(t)
	for _, f := range sent {
		r.deliver(f)
		r.settle()
	}
	frames, flips, cuts := append(sent, framesOf(t, r.out)...), 0, 0
	for _, f := range frames {
		if !accepts(f) {
			t.Fatalf("a frame that was not changed is refused: %x", f)
		}
		bad := bytes.Clone(f)
		for bit := range 8 * len(f) {
			bad[bit/8] ^= 1 << (bit % 8)
			if accepts(bad) {
				t.Fatalf("bit %d of %x: accepted", bit, f)
			}
			bad[bit/8] ^= 1 << (bit % 8)
			flips++
		}
		for n := range f {
			if accepts(f[:n]) {
				t.Fatalf("%d bytes of %x: accepted", n, f)
			}
			cuts++
		}
	}
	t.Logf("flips control: tried=%d reached=%d injected=%d failed=0 seed=0", flips+cuts, len(frames), flips+cuts)
}

// TestFlips damages cells on their way to a server, by single bits and by swaps of words, which TCP does not see: each is asked for again, and
// what is stored in the end is right.
func TestFlips(t *testing.T) {
	rng := rand.New(rand.NewPCG(*flipSeed, 0))
	flips, swaps, stored := 0, 0, 0
	r := newRig(t, mem.New(mem.Config{}))
	r.deliver(hello())
	for stream := uint32(1); flips < *flipCount || swaps < *swapCount; stream++ {
		a := newTestArray(t, "a", 1, "")
		a.msg.ID = wire.ID{1, byte(stream), byte(stream >> 8), byte(stream >> 16)}
		r.deliver(a.put(stream))
		r.settle()
		asked := 0
		for i := range a.cells {
			whole := a.chunk(stream, i)
			for range wire.MaxDamages {
				bad := bytes.Clone(whole)
				payload := bad[wire.HeaderSize:][:len(a.cells[i])]
				if flips < *flipCount {
					payload[rng.IntN(len(payload))] ^= 1 << rng.IntN(8)
					flips++
				} else {
					x, y := 2*rng.IntN(len(payload)/2), 2*rng.IntN(len(payload)/2)
					if bytes.Equal(payload[x:x+2], payload[y:y+2]) {
						continue
					}
					payload[x], payload[x+1], payload[y], payload[y+1] = payload[y], payload[y+1], payload[x], payload[x+1]
					swaps++
				}
				r.deliver(bad)
				asked++
			}
			r.deliver(whole)
		}
		r.deliver(a.finish(stream))
		r.settle()
		got := r.replies()[stream]
		r.out = nil
		if len(got) != asked+1 || got[asked][:8] != "RECEIPT " {
			t.Fatalf("stream %d: %d cells damaged, answers %q", stream, asked, got)
		}
		stored++
	}
	report, err := r.store.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close()
	want := newTestArray(t, "a", 1, "")
	for i, cell := range want.cells {
		got := make([]byte, len(cell))
		if err := report.Read(t.Context(), i, got); err != nil || !bytes.Equal(got, cell) {
			t.Errorf("cell %d: %x, %v; want %x", i, got, err, cell)
		}
	}
	t.Logf("flips payload: tried=%d reached=%d injected=%d failed=0 seed=%d (%d bits, %d swaps)", stored, stored, flips+swaps, *flipSeed, flips, swaps)
}
