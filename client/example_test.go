package client_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"net"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/worker"
	"ndferry/store/mem"
)

// startServer runs a server in this process, as "ndferry serve --store mem:" does in one of its own.
func startServer() (addr string, stop func()) {
	st := mem.New(mem.Config{})
	srv := worker.New(st, worker.Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go srv.Serve(ln)
	return "tcp://" + ln.Addr().String(), func() {
		srv.Shutdown(context.Background())
		st.Close()
	}
}

func Example() {
	addr, stop := startServer()
	defer stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, addr, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// Two rows of three float64, little-endian.
	var data []byte
	for _, v := range []float64{1, 2, 3, 4, 5, math.Inf(-1)} {
		data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
	}
	dtype, err := array.ParseDType("<f8")
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := c.Put(ctx, "lab/run7", client.Array{DType: dtype, Shape: array.Shape{2, 3}, Data: data},
		client.PutOptions{Digest: client.SHA256, Attributes: []byte(`{"detector":"A"}`)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Name, receipt.Bytes, "bytes,", receipt.Durability)

	a, err := c.Get(ctx, "lab/run7", client.GetOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.DType, a.Shape, math.Float64frombits(binary.LittleEndian.Uint64(a.Data[5*8:])))
	// Output:
	// lab/run7 48 bytes, memory
	// <f8 (2, 3) -Inf
}

func ExampleClient_List() {
	addr, stop := startServer()
	defer stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, addr, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	dtype, err := array.ParseDType("|u1")
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"run7/dark", "run7/frames", "run8/frames"} {
		if _, err := c.Put(ctx, name, client.Array{DType: dtype, Shape: array.Shape{4}, Data: []byte("abcd")}, client.PutOptions{}); err != nil {
			log.Fatal(err)
		}
	}
	if err := c.Delete(ctx, "run7/dark"); err != nil {
		log.Fatal(err)
	}
	list, err := c.List(ctx, "run")
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range list {
		fmt.Println(e.Name, e.DType, e.Shape, e.Bytes)
	}
	st, err := c.Stat(ctx, "run8/frames")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(st.Name, st.Chunks, st.Digest, string(st.Attributes))
	// Output:
	// run7/frames |u1 (4,) 4
	// run8/frames |u1 (4,) 4
	// run8/frames (4,) crc32c {}
}

// A row that is repeated 500 times travels once, and a part of it is read from its end.
func ExampleView() {
	addr, stop := startServer()
	defer stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, addr, client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	dtype, err := array.ParseDType("|u1")
	if err != nil {
		log.Fatal(err)
	}
	row := make([]byte, 100_000)
	for i := range row {
		row[i] = byte(i % 251)
	}
	rows, err := client.NewView(dtype, array.Shape{500, len(row)}, array.Strides{0, 1}, 0, row)
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := c.PutFrom(ctx, "rows", rows, client.PutOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Bytes, "bytes,", receipt.StoredBytes, "stored")

	region, shape, err := array.ParseRegion("499, 4:0:-1", rows.Shape)
	if err != nil {
		log.Fatal(err)
	}
	part, err := c.Read(ctx, "rows", region, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(shape, part.Data)
	// Output:
	// 50000000 bytes, 100000 stored
	// (4,) [4 3 2 1]
}
