package dir_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

var interop = flag.String("interop", "", "write the store for interop/zarr_read.py to this new directory")

// TestInterop writes arrays of every dtype, order and class of shape, and beside each its bytes; interop/zarr_read.py compares
// them with what other programs read from the store.
func TestInterop(t *testing.T) {
	base := *interop
	if base == "" {
		base = t.TempDir() + "/interop"
	}
	if err := os.Mkdir(base, 0o777); err != nil {
		t.Fatal(err)
	}
	s := open(t, base+"/store", dir.Config{})
	defer s.Close()
	type item struct {
		Name       string      `json:"name"`
		DType      string      `json:"dtype"`
		Shape      array.Shape `json:"shape"`
		Cell       array.Shape `json:"cell"`
		Order      array.Order `json:"order"`
		Slabs      bool        `json:"slabs"` // the shard is the padded array
		Padded     array.Shape `json:"padded"`
		Shard      string      `json:"shard"`
		Attributes string      `json:"attributes"`
		Bytes      string      `json:"bytes"`
	}
	var items []item
	for d, dtype := range []string{
		"|b1", "|i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "|u1", "<u2", ">u2", "<u4", ">u4", "<u8", ">u8",
		"<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c8", "<c16", ">c16",
	} {
		for c, class := range []struct {
			shape, cell array.Shape
			order       array.Order
		}{
			{array.Shape{}, array.Shape{}, nil},
			{array.Shape{0}, array.Shape{1}, nil},
			{array.Shape{3, 0, 2}, array.Shape{3, 1, 2}, array.Order{2, 1, 0}},
			{array.Shape{1}, array.Shape{1}, nil},
			{array.Shape{1000}, array.Shape{300}, nil},
			{array.Shape{37, 21}, array.Shape{10, 21}, nil},
			{array.Shape{37, 21}, array.Shape{37, 5}, array.Order{1, 0}},
			{array.Shape{7, 5, 4}, array.Shape{3, 2, 3}, nil},
			{array.Shape{7, 5, 4}, array.Shape{3, 2, 3}, array.Order{2, 0, 1}},
			{array.Shape{7, 5, 4}, array.Shape{1, 2, 4}, nil},
			{array.Shape{2, 1, 2, 1, 2, 1, 3}, array.Shape{1, 1, 2, 1, 2, 1, 2}, array.Order{6, 5, 4, 3, 2, 1, 0}},
		} {
			x := storetest.NewSample(t, fmt.Sprintf("d%d/é %d", d, c), dtype, class.shape, class.cell, class.order, store.DigestSHA256, uint64(c))
			x.Put(t, s)
			x.Check(t, s)
			grid, err := x.Meta.Grid()
			if err != nil {
				t.Fatal(err)
			}
			bytes := fmt.Sprintf("%d-%d.bin", d, c)
			if err := os.WriteFile(filepath.Join(base, bytes), x.Whole, 0o666); err != nil {
				t.Fatal(err)
			}
			items = append(items, item{x.Name, x.Meta.DType.String(), class.shape, class.cell, grid.Order(), grid.Slabs(), grid.PaddedShape(), array.ShardKey(len(class.shape)), string(x.Attributes), bytes})
		}
	}
	text, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(base+"/manifest.json", text, 0o666); err != nil {
		t.Fatal(err)
	}
}
