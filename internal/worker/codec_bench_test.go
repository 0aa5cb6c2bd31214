package worker

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
)

// BenchmarkCodecs times put and get of 64 MiB through a server in memory and a Unix socket, every way in turn, and reports medians
// in raw MB a second. auto-local is the default; auto-slow samples, as for a link of 100 MB/s.
func BenchmarkCodecs(b *testing.B) {
	ways := []struct {
		name string
		opts client.PutOptions
	}{
		{"none", client.PutOptions{Codec: "none"}},
		{"auto-local", client.PutOptions{}},
		{"auto-slow", client.PutOptions{LinkRate: 100e6}},
		{"lz4", client.PutOptions{Codec: "lz4"}},
		{"zstd-1", client.PutOptions{Codec: "zstd", Level: new(1)}},
	}
	const size = 64 << 20
	rng := rand.NewChaCha8([32]byte{1})
	noise, smooth := make([]byte, size), make([]byte, size)
	rng.Read(noise)
	for i := 0; i < size; i += 4 {
		binary.LittleEndian.PutUint32(smooth[i:], math.Float32bits(float32(math.Sin(float64(i)/1e5))))
	}
	for kind, data := range map[string][]byte{"noise": noise, "smooth": smooth} {
		b.Run(kind, func(b *testing.B) {
			_, addr := serve(b, stores["mem"](b), Config{})
			c := dial(b, addr)
			a := client.Array{DType: dtype(b, "<f4"), Shape: array.Shape{size / 4}, Data: data}
			into := make([]byte, size)
			puts, gets := make([][]float64, len(ways)), make([][]float64, len(ways))
			rate := func(begin time.Time) float64 { return size / 1e6 / time.Since(begin).Seconds() }
			for range b.N {
				for i, way := range ways {
					begin := time.Now()
					if _, err := c.Put(context.Background(), "a", a, way.opts); err != nil {
						b.Fatal(err)
					}
					puts[i] = append(puts[i], rate(begin))
					begin = time.Now()
					if _, err := c.Get(context.Background(), "a", client.GetOptions{Into: into}); err != nil {
						b.Fatal(err)
					}
					gets[i] = append(gets[i], rate(begin))
				}
			}
			for i, way := range ways {
				slices.Sort(puts[i])
				slices.Sort(gets[i])
				b.ReportMetric(puts[i][b.N/2], way.name+"-put-MB/s")
				b.ReportMetric(gets[i][b.N/2], way.name+"-get-MB/s")
			}
		})
	}
}
