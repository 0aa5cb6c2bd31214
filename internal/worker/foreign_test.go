package worker

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/dir"
	"ndferry/wire"
)

// TestItemSize stores and fetches elements as large as a cell.
func TestItemSize(t *testing.T) { eachDriver(t, itemSize) }

func itemSize(t *testing.T, driver string) {
	_, addr := serve(t, stores["mem"](t), Config{Driver: driver})
	c := dial(t, addr)
	for _, dt := range []string{fmt.Sprintf("|S%d", wire.MaxCell), fmt.Sprintf(">U%d", wire.MaxCell/4), fmt.Sprintf("|V%d", array.MaxRawSize)} {
		a := client.Array{DType: dtype(t, dt), Shape: array.Shape{2}}
		a.Data = varied(2 * a.DType.ItemSize())
		if _, err := c.Put(context.Background(), "large", a, client.PutOptions{}); err != nil {
			t.Fatalf("%s: %v", dt, err)
		}
		b, err := c.Get(context.Background(), "large", client.GetOptions{})
		if err != nil || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("%s: other bytes, or %v", dt, err)
		}
		one := client.Array{DType: a.DType, Shape: array.Shape{1}, Data: a.Data[:a.DType.ItemSize()]} // constant, and too long for a fill_value
		if _, err := c.Put(context.Background(), "large", one, client.PutOptions{Digest: "sha256"}); err != nil {
			t.Fatalf("one %s: %v", dt, err)
		}
		if b, err = c.Get(context.Background(), "large", client.GetOptions{}); err != nil || !bytes.Equal(one.Data, b.Data) {
			t.Errorf("one %s: other bytes, or %v", dt, err)
		}
	}
}

// TestForeignChunks serves what others wrote in chunks as large as a cell, one over, and of the largest size: over a cell they are cut
// anew, also under transpose.
func TestForeignChunks(t *testing.T) { eachDriver(t, foreignChunks) }

func foreignChunks(t *testing.T, driver string) {
	root := filepath.Join(t.TempDir(), "store")
	st, err := dir.Open(root, dir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, shape, chunk, codecs string, chunks map[string][]byte) {
		node := filepath.Join(root, "zarr", name)
		if err := os.MkdirAll(node, 0o755); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"zarr_format":3,"node_type":"array","shape":%s,"data_type":"uint8","chunk_grid":{"name":"regular","configuration":{"chunk_shape":%s}},`+
			`"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":0,"codecs":%s,"attributes":{}}`, shape, chunk, codecs)
		chunks["zarr.json"] = []byte(text)
		for key, data := range chunks {
			if err := os.WriteFile(filepath.Join(node, key), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	const plain, turned = `[{"name":"bytes"}]`, `[{"name":"transpose","configuration":{"order":[1,0]}},{"name":"bytes"}]`
	data := make([]byte, 2*wire.MaxCell+2)
	rand.NewChaCha8([32]byte{}).Read(data)
	size := func(n int) string { return fmt.Sprintf("[%d]", n) }
	write("whole", size(2*wire.MaxCell), size(wire.MaxCell), plain, map[string][]byte{"c.0": data[:wire.MaxCell], "c.1": data[wire.MaxCell : 2*wire.MaxCell]})
	write("over", size(2*wire.MaxCell+2), size(wire.MaxCell+1), plain, map[string][]byte{"c.0": data[:wire.MaxCell+1], "c.1": data[wire.MaxCell+1:]})
	write("turned", "[5003,4001]", "[5003,4001]", turned, map[string][]byte{"c.0.0": data[:5003*4001]})
	write("largest", size(1<<40), size(512<<20), plain, map[string][]byte{})
	write("too large", size(1<<40), size(512<<20+1), plain, map[string][]byte{})

	_, addr := serve(t, st, Config{Driver: driver})
	c := dial(t, addr)
	for _, test := range []struct {
		name  string
		cells int
		want  []byte
	}{
		{"whole", 2, data[:2*wire.MaxCell]},
		{"over", 10, data},
		{"turned", 5, data[:5003*4001]},
		{"largest", 1 << 18, nil},
	} {
		s, err := c.Stat(context.Background(), test.name)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		n, err := s.Chunks.Bytes(1)
		if err != nil || n > wire.MaxCell || s.Cells != test.cells {
			t.Errorf("%s: %d cells of %d bytes, want %d of at most %d; %v", test.name, s.Cells, n, test.cells, wire.MaxCell, err)
		}
		if test.want == nil {
			continue
		}
		a, err := c.Get(context.Background(), test.name, client.GetOptions{})
		if err != nil || !bytes.Equal(a.Data, test.want) {
			t.Errorf("%s: other bytes, or %v", test.name, err)
		}
	}
	if _, err := c.Stat(context.Background(), "too large"); err == nil {
		t.Error("chunks of over 512 MiB are served")
	}
	if _, err := c.Ping(context.Background()); err != nil {
		t.Error(err)
	}
}
