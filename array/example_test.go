package array_test

import (
	"bytes"
	"fmt"

	"ndferry/array"
)

func ExampleParseDType() {
	d, err := array.ParseDType(">f4")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d, d.Name(), d.ItemSize(), d.BigEndian())
	_, err = array.ParseDType("|O")
	fmt.Println(err)
	// Output:
	// >f4 float32 4 true
	// array: dtype "|O": dtype not supported: object arrays hold Python objects; convert with astype to a fixed type, for example float64
}

// A cell at the edge is full size; what lies beyond the array is zero.
func ExampleGrid_Gather() {
	shape, whole := array.Shape{2, 5}, []byte("abcdeABCDE")
	g, err := array.NewGrid(shape, array.Shape{2, 3}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	cell := make([]byte, g.CellElements())
	for i := range g.Len() {
		g.Gather(cell, whole, i)
		fmt.Printf("%v %q\n", g.Region(i), cell)
	}
	// Output:
	// [0:2, 0:3] "abcABC"
	// [0:2, 3:5] "de\x00DE\x00"
}

func ExampleDefaultCell() {
	fmt.Println(array.DefaultCell(array.Shape{1000, 1000}, nil, 8, 0))
	fmt.Println(array.DefaultCell(array.Shape{1000, 1000}, array.FOrder(2), 8, 0))
	// Output:
	// (500, 1000)
	// (1000, 500)
}

func ExampleParseNPYHeader() {
	d, _ := array.ParseDType("<i2")
	file := array.AppendNPYHeader(nil, d, array.Shape{3, 4}, true)
	h, err := array.ParseNPYHeader(bytes.NewReader(file))
	fmt.Println(h.DType, h.Shape, h.FortranOrder, h.DataOffset, err)
	// Output: <i2 (3, 4) true 128 <nil>
}

func ExampleMeta_AppendWire() {
	d, _ := array.ParseDType("<f8")
	m := array.Meta{Shape: array.Shape{3}, DType: d, Cell: array.Shape{2}, DimNames: array.DefaultDimNames("run/t", 1)}
	raw, err := m.AppendWire(nil)
	fmt.Println(string(raw), err)
	// Output: {"zarr_format":3,"node_type":"array","shape":[3],"data_type":"float64","chunk_grid":{"name":"regular","configuration":{"chunk_shape":[2]}},"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":0.0,"codecs":[{"name":"bytes","configuration":{"endian":"little"}}],"dimension_names":["t_0"],"attributes":{}} <nil>
}

func ExampleCheckName() {
	fmt.Println(array.CheckName("run/12/sst"))
	fmt.Println(array.CheckName("run/../sst"))
	// Output:
	// <nil>
	// array: bad array name: "run/../sst": a part begins with "."
}
