package unzstd_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"

	"ndferry/wire/codec"
	"ndferry/wire/codec/unzstd"
)

// frame is one frame and its decoded size.
type frame struct {
	n    int
	body []byte
}

// frames encodes raw at level 5 and takes the frames out of the container.
func frames(b *testing.B, raw []byte, typeSize int) []frame {
	b.Helper()
	c, err := codec.AppendEncode(nil, raw, codec.Params{Name: codec.Zstd, Level: 5, TypeSize: typeSize})
	if err != nil {
		b.Fatal(err)
	}
	in, err := codec.Parse(c)
	if err != nil || in.Copied {
		b.Fatalf("%+v, %v", in, err)
	}
	var out []frame
	for at := 0; at < in.Len; at += in.BlockSize {
		start := binary.LittleEndian.Uint32(c[codec.HeaderLen+4*len(out):])
		size := binary.LittleEndian.Uint32(c[start:])
		out = append(out, frame{min(in.BlockSize, in.Len-at), c[start+4 : start+4+size]})
	}
	return out
}

// BenchmarkDecode compares with the library. With -tags purego,noasm both are
// plain Go.
func BenchmarkDecode(b *testing.B) {
	const n = 4 << 20
	r := rand.New(rand.NewPCG(1, 2))
	smooth, noise, counter, image := make([]byte, n), make([]byte, n), make([]byte, n), make([]byte, n)
	count := uint32(0)
	for i := 0; i < n; i += 4 {
		x := float64(i) / n * 40
		binary.LittleEndian.PutUint32(smooth[i:], math.Float32bits(float32(math.Sin(x)+0.2*math.Sin(11*x))))
		count += uint32(r.IntN(3))
		binary.LittleEndian.PutUint32(counter[i:], count)
	}
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(noise[i:], math.Float64bits(1000+r.NormFloat64()))
	}
	for i := range image {
		x, y := float64(i%2048)/2048, float64(i/2048)/2048
		image[i] = byte(127 + 60*math.Sin(9*x)*math.Cos(7*y) + 1.5*r.NormFloat64())
	}
	lib, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	if err != nil {
		b.Fatal(err)
	}
	var ours unzstd.Decoder
	for _, kind := range []struct {
		name     string
		raw      []byte
		typeSize int
	}{{"smooth", smooth, 4}, {"noise", noise, 8}, {"counter", counter, 4}, {"image", image, 1}} {
		fs := frames(b, kind.raw, kind.typeSize)
		dst := make([]byte, fs[0].n, fs[0].n+unzstd.Slack)
		for _, who := range []struct {
			name   string
			decode func(f frame) error
		}{
			{"ours", func(f frame) error { return ours.Decode(dst[:f.n], f.body) }},
			{"library", func(f frame) error { _, err := lib.DecodeAll(f.body, dst[:0]); return err }},
		} {
			b.Run(kind.name+"/"+who.name, func(b *testing.B) {
				b.SetBytes(n)
				for b.Loop() {
					for _, f := range fs {
						if err := who.decode(f); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}
