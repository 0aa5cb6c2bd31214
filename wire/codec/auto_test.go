package codec

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// fiveKinds are the kinds of data that codecs are judged by.
func fiveKinds(n int) map[string]struct {
	size int
	raw  []byte
} {
	r := rand.New(rand.NewPCG(1, 2))
	type kind = struct {
		size int
		raw  []byte
	}
	mantissa, counter, image := make([]byte, 0, n), make([]byte, 0, n), make([]byte, 0, n)
	for i, c := 0, uint32(0); i < n/8; i++ {
		mantissa = binary.LittleEndian.AppendUint64(mantissa, math.Float64bits(1000+r.NormFloat64()))
		for range 2 {
			c += uint32(r.IntN(3))
			counter = binary.LittleEndian.AppendUint32(counter, c)
		}
	}
	for i := range n {
		v := 127 + 60*math.Sin(float64(i%2048)/200)*math.Cos(float64(i/2048)/300) + r.NormFloat64()
		image = append(image, byte(v))
	}
	return map[string]kind{
		"smooth float32": {4, kinds[0].make(n)},
		"noise float64":  {8, mantissa},
		"counter int32":  {4, counter},
		"image uint8":    {1, image},
		"random":         {1, randomBytes(n, 9)},
	}
}

// TestDecide_slowLink holds the decision to 0.9 of the best ratio that any
// choice reaches on the whole array when only the link matters.
func TestDecide_slowLink(t *testing.T) {
	const n = 1 << 20
	for name, k := range fiveKinds(n) {
		d := DecideBytes(k.raw, k.size, Rates{Link: 10e6})
		best := 1.0
		for _, p := range trials {
			p.TypeSize = k.size
			enc, err := AppendEncode(nil, k.raw, p)
			if err != nil {
				t.Fatal(err)
			}
			best = max(best, float64(n)/float64(len(enc)))
		}
		enc, err := AppendEncode(nil, k.raw, d.Params)
		if err != nil {
			t.Fatal(err)
		}
		got := float64(n) / float64(len(enc))
		t.Logf("%s: %.3f of at best %.3f in %v: %s", name, got, best, d.Cost, d.Why)
		if got < 0.9*best {
			t.Errorf("%s: ratio %.3f, the best is %.3f", name, got, best)
		}
		if (name == "random") != (d.Params.Name == None) {
			t.Errorf("%s: chose %v: %s", name, d.Params.Name, d.Why)
		}
	}
}

func TestDecide(t *testing.T) {
	const n = 1 << 20
	five := fiveKinds(n)
	smooth := five["smooth float32"]
	for _, c := range []struct {
		name  string
		raw   []byte
		size  int
		rates Rates
		want  Name
	}{
		{"empty", nil, 4, Rates{}, None},
		{"tiny", smooth.raw[:100], 4, Rates{}, None},
		{"random", five["random"].raw, 8, Rates{Link: 1e6}, None},
		{"zeros on a slow link", make([]byte, n), 8, Rates{Link: 1e8}, LZ4},
		{"zeros on a link faster than any codec", make([]byte, n), 8, Rates{Link: 20e9}, None},
		{"smooth on a slow link", smooth.raw, 4, Rates{Link: 1e7}, Zstd},
		{"smooth on a link near lz4's rate", smooth.raw, 4, Rates{Link: 0.9e9, Workers: 2}, LZ4},
		{"smooth on a memory link", smooth.raw, 4, Rates{Link: 10e9}, None},
		{"slow measured codecs", smooth.raw, 4, Rates{Link: 1e8, Encode: [Zstd + 1]float64{LZ4: 9e7, Zstd: 9e7}}, None},
		{"odd length", smooth.raw[:n-3], 4, Rates{Link: 1e7}, Zstd},
		{"wide elements", make([]byte, n), 300, Rates{Link: 1e7}, LZ4},
		{"element longer than a sample", smooth.raw, sampleLen + 1, Rates{Link: 1e7}, None},
	} {
		d := DecideBytes(c.raw, c.size, c.rates)
		if d.Params.Name != c.want || d.Why == "" {
			t.Errorf("%s: %v (%s), want %v", c.name, d.Params.Name, d.Why, c.want)
		}
		if _, err := AppendEncode(nil, c.raw, d.Params); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	broken := errors.New("broken")
	if _, err := Decide(n, 4, Rates{}, func([]byte, int64) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error of sample: %v", err)
	}
}

// TestDecide_samples holds samples inside the array and on its elements.
func TestDecide_samples(t *testing.T) {
	for _, size := range []int64{1, 1000, 65535, 65536, 65537, 200_000, 1<<40 + 3} {
		for _, typeSize := range []int{1, 3, 8, 300} {
			total := int64(0)
			_, err := Decide(size, typeSize, Rates{Link: 1e6}, func(dst []byte, offset int64) error {
				if offset < 0 || offset+int64(len(dst)) > size || offset%int64(typeSize) != 0 || len(dst)%typeSize != 0 {
					t.Errorf("size %d, typesize %d: sample of %d bytes at %d", size, typeSize, len(dst), offset)
				}
				total += int64(len(dst))
				return nil
			})
			if err != nil || total > maxSamples*sampleLen {
				t.Errorf("size %d: %d bytes sampled, %v", size, total, err)
			}
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, k := range fiveKinds(16 << 20) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(k.raw)))
			for b.Loop() {
				DecideBytes(k.raw, k.size, Rates{Link: 1e9})
			}
		})
	}
}

// TestDecide_noise sees that noise is told apart before anything is encoded, which is what makes auto cheap.
func TestDecide_noise(t *testing.T) {
	for seed := range byte(4) {
		noise := make([]byte, 16<<20)
		rand.NewChaCha8([32]byte{seed}).Read(noise)
		for _, typeSize := range []int{1, 2, 4, 8, 16} {
			d := DecideBytes(noise, typeSize, Rates{Link: 100e6, Workers: 2})
			if d.Params.Name != None || d.Why != "no byte of the sampled elements looks compressible" {
				t.Errorf("seed %d, %d bytes an element: %v: %s (%v)", seed, typeSize, d.Params.Name, d.Why, d.Cost)
			}
		}
	}
}
