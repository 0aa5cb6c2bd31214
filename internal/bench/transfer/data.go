// Package transfer measures what it takes to put an array to a server in
// another process and to get it back, verified on both ways: the client's
// side of the benchmark "transfer".
package transfer

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"

	"ndferry/array"
	"ndferry/client"
)

// Kinds of data that Make knows besides the path of a .npy file.
var Kinds = []string{"normal", "random", "smooth", "ints", "zeros"}

// Make returns an array of one of Kinds, or that of a .npy file, for which
// dtype and shape are not used. The seed is fixed: every run has the same.
func Make(kind, dtype string, shape array.Shape) (client.Array, error) {
	if strings.HasSuffix(kind, ".npy") {
		return load(kind)
	}
	d, err := array.ParseDType(dtype)
	if err != nil {
		return client.Array{}, err
	}
	size, err := shape.Bytes(d.ItemSize())
	if err != nil {
		return client.Array{}, err
	}
	a := client.Array{DType: d, Shape: shape, Data: make([]byte, size)}
	if kind == "random" {
		rand.NewChaCha8([32]byte{1}).Read(a.Data)
		return a, nil
	}
	value, err := values(kind)
	if err != nil {
		return client.Array{}, err
	}
	put, err := writer(d)
	if err != nil {
		return client.Array{}, err
	}
	for i, n := 0, d.ItemSize(); i*n < len(a.Data); i++ {
		put(a.Data[i*n:], value(i))
	}
	return a, nil
}

// values returns the elements of a kind, by index.
func values(kind string) (func(i int) float64, error) {
	r := rand.New(rand.NewPCG(1, 2))
	switch kind {
	case "normal":
		return func(int) float64 { return r.NormFloat64() }, nil
	case "smooth":
		return func(i int) float64 { x := float64(i) / 5000; return 20*math.Sin(x) + math.Sin(37*x) }, nil
	case "ints":
		return func(int) float64 { return float64(r.IntN(100)) }, nil
	case "zeros":
		return func(i int) float64 { return max(0, float64(1-i)) }, nil // but the first: a constant array would not travel
	}
	return nil, fmt.Errorf("data %q: want %s or a FILE.npy", kind, strings.Join(Kinds, ", "))
}

// writer returns what writes one element.
func writer(d array.DType) (func(p []byte, v float64), error) {
	var order binary.ByteOrder = binary.LittleEndian
	if d.BigEndian() {
		order = binary.BigEndian
	}
	switch d.Kind() {
	case 'f':
		switch d.ItemSize() {
		case 4:
			return func(p []byte, v float64) { order.PutUint32(p, math.Float32bits(float32(v))) }, nil
		case 8:
			return func(p []byte, v float64) { order.PutUint64(p, math.Float64bits(v)) }, nil
		}
	case 'i', 'u':
		switch d.ItemSize() {
		case 1:
			return func(p []byte, v float64) { p[0] = byte(int64(v)) }, nil
		case 2:
			return func(p []byte, v float64) { order.PutUint16(p, uint16(int64(v))) }, nil
		case 4:
			return func(p []byte, v float64) { order.PutUint32(p, uint32(int64(v))) }, nil
		case 8:
			return func(p []byte, v float64) { order.PutUint64(p, uint64(int64(v))) }, nil
		}
	}
	return nil, fmt.Errorf("dtype %v: only random data is made of it; there are float32, float64 and integers for the others", d)
}

func load(path string) (client.Array, error) {
	f, err := os.Open(path)
	if err != nil {
		return client.Array{}, err
	}
	defer f.Close()
	h, err := array.ParseNPYHeader(f)
	if err != nil {
		return client.Array{}, fmt.Errorf("%s: %w", path, err)
	}
	size, err := h.Shape.Bytes(h.DType.ItemSize())
	if err != nil {
		return client.Array{}, fmt.Errorf("%s: %w", path, err)
	}
	a := client.Array{DType: h.DType, Shape: h.Shape, Order: h.Order(), Data: make([]byte, size)}
	if _, err := io.ReadFull(f, a.Data); err != nil {
		return client.Array{}, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}
