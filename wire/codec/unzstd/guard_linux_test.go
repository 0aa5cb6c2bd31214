package unzstd

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// guarded is memory between two pages that may not be touched: a read or a
// write outside ends the process.
type guarded struct{ room []byte }

func newGuarded(t testing.TB, n int) guarded {
	t.Helper()
	page := os.Getpagesize()
	n = (n + page - 1) / page * page
	all, err := unix.Mmap(-1, 0, n+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	for _, guard := range [][]byte{all[:page], all[page+n:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Munmap(all) })
	return guarded{all[page : page+n : page+n]}
}

// low is n bytes behind the first guard, high n before the last.
func (g guarded) low(n int) []byte  { return g.room[:n:n] }
func (g guarded) high(n int) []byte { return g.room[len(g.room)-n:] }

// TestGuardPages decodes good and damaged frames where the byte before or
// behind source and destination may not be touched.
func TestGuardPages(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	src, dst := newGuarded(t, 64<<10), newGuarded(t, 1<<20)
	vectors := readVectors(t)
	eachPath(t, func(t *testing.T) {
		var d Decoder
		for _, v := range vectors {
			for turn := range 8 {
				in, out := src.high(v.size), dst.high(v.length)
				if turn%2 == 1 {
					in, out = src.low(v.size), dst.low(v.length)
				}
				copy(in, v.frame)
				if turn >= 2 {
					for range 1 + rng.IntN(3) {
						in[rng.IntN(len(in))] ^= 1 << rng.IntN(8)
					}
				}
				err := d.Decode(out, in)
				if turn < 2 && err != nil && v.dictionarySize == 0 {
					t.Fatalf("%s: %v", v.name, err)
				}
				if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDictionary) {
					t.Fatalf("%s: %v", v.name, err)
				}
			}
		}
	})
}

// TestPaths gives damaged frames to each path, which must agree on what is an
// error and on every byte, and must keep out of what lies around dst.
func TestPaths(t *testing.T) {
	const seed = 12
	t.Logf("seed %d", seed)
	vectors := readVectors(t)
	type result struct {
		bad bool
		sum []byte
	}
	guard := bytes.Repeat([]byte{0xee}, 100)
	var results [][]result
	bad := 0
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var d Decoder
		var all []result
		for _, v := range vectors {
			if v.length > 20_000 {
				continue
			}
			for range 10 {
				in := bytes.Clone(v.frame)
				for range 1 + rng.IntN(2) {
					in[rng.IntN(len(in))] ^= 1 << rng.IntN(8)
				}
				room := rng.IntN(2 * Slack)
				out := make([]byte, v.length+200)
				copy(out, guard)
				copy(out[100+v.length:], guard)
				err := d.Decode(out[100:100+v.length:100+v.length+min(room, 100)], in)
				lent := min(room, Slack)
				if !bytes.Equal(out[:100], guard) || !bytes.Equal(out[100+v.length+lent:], guard[lent:]) {
					t.Fatalf("%s: wrote outside of %d bytes and %d behind", v.name, v.length, lent)
				}
				r := result{bad: err != nil}
				if err == nil {
					r.sum = out[100 : 100+v.length]
				} else {
					bad++
				}
				all = append(all, r)
			}
		}
		results = append(results, all)
	})
	for i, first := range results[0] {
		for _, other := range results[1:] {
			if first.bad != other[i].bad || !bytes.Equal(first.sum, other[i].sum) {
				t.Fatalf("case %d: the paths differ: error %v and %v", i, first.bad, other[i].bad)
			}
		}
	}
	t.Logf("%d damaged frames on %d paths, %d refused", len(results[0]), len(results), bad)
	if n := len(results[0]) * len(results); bad == 0 || bad == n {
		t.Fatalf("%d of %d damaged frames are refused", bad, n)
	}
}
