package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/wire"
)

func tcpPair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func testArray(t *testing.T, dtype string, shape array.Shape, order array.Order) Array {
	t.Helper()
	d, err := array.ParseDType(dtype)
	if err != nil {
		t.Fatal(err)
	}
	n, err := shape.Bytes(d.ItemSize())
	if err != nil {
		t.Fatal(err)
	}
	a := Array{DType: d, Shape: shape, Order: order, Data: make([]byte, n)}
	for i := range a.Data {
		a.Data[i] = byte(i*7 + i>>8)
	}
	return a
}

type received struct {
	a   *Array
	st  *Stat
	err error
}

func receiving(conn net.Conn, opts ReceiveOptions) <-chan received {
	c := make(chan received, 1)
	go func() {
		a, st, err := Receive(context.Background(), conn, opts)
		c <- received{a, st, err}
	}()
	return c
}

func wait(t *testing.T, c <-chan received) received {
	t.Helper()
	select {
	case r := <-c:
		return r
	case <-time.After(time.Minute):
		t.Fatal("the receiver hangs")
		panic("unreachable")
	}
}

// works passes an array each way with other bytes behind it: the stream is at a boundary, and nothing behind an array is read.
func works(t *testing.T, a, b net.Conn) {
	t.Helper()
	x := testArray(t, "<i4", array.Shape{5, 3}, nil)
	for range 2 {
		got := receiving(b, ReceiveOptions{})
		if _, err := Send(context.Background(), a, x, PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write([]byte("behind")); err != nil {
			t.Fatal(err)
		}
		r := wait(t, got)
		if r.err != nil || !bytes.Equal(r.a.Data, x.Data) {
			t.Fatalf("received %v", r.err)
		}
		behind := make([]byte, 6)
		if _, err := io.ReadFull(b, behind); err != nil || string(behind) != "behind" {
			t.Fatalf("behind the array came %q, %v", behind, err)
		}
		a, b = b, a
	}
}

func TestDirect(t *testing.T) {
	a, b := tcpPair(t)
	for _, x := range []Array{
		testArray(t, "<f4", array.Shape{3000, 1001}, nil),
		testArray(t, ">i2", array.Shape{7, 5, 3}, array.Order{2, 1, 0}),
		testArray(t, "|u1", array.Shape{}, nil),
		testArray(t, "<c16", array.Shape{3, 0, 2}, nil),
	} {
		for _, opts := range []PutOptions{{}, {Digest: SHA256, Attributes: []byte(`{"unit": "K"}`)}, {ChunkBytes: 1000},
			{Codec: "lz4", Digest: SHA256}, {Codec: "zstd", ChunkBytes: 5000}} {
			got := receiving(b, ReceiveOptions{})
			receipt, err := Send(context.Background(), a, x, opts)
			if err != nil {
				t.Fatal(err)
			}
			r := wait(t, got)
			if r.err != nil {
				t.Fatal(r.err)
			}
			if !bytes.Equal(r.a.Data, x.Data) || !r.a.DType.Equal(x.DType) || x.Order != nil && !slices.Equal(r.a.Order, x.Order) {
				t.Fatalf("%v %v: came as %v %v %v", x.DType, x.Shape, r.a.DType, r.a.Shape, r.a.Order)
			}
			if opts.Attributes != nil && (string(r.st.Attributes) != `{"unit": "K"}` || receipt.Root != r.st.Root || receipt.Root == "") {
				t.Fatalf("attributes %s, roots %q and %q", r.st.Attributes, receipt.Root, r.st.Root)
			}
		}
	}
	works(t, a, b)
}

func TestDirectRefused(t *testing.T) {
	big := testArray(t, "|u1", array.Shape{directWindow + directWindow/2}, nil)
	for name, opts := range map[string]ReceiveOptions{"limit": {Limit: 1 << 20}, "into": {Into: make([]byte, 7)}} {
		t.Run(name, func(t *testing.T) {
			a, b := tcpPair(t)
			got := receiving(b, opts)
			_, err := Send(context.Background(), a, big, PutOptions{})
			told, ok := errors.AsType[*Error](err)
			if !ok || told.Closed || told.Code != wire.CodeLimit && told.Code != wire.CodeInvalid {
				t.Fatalf("the sender is told %v", err)
			}
			r := wait(t, got)
			if e, ok := errors.AsType[*Error](r.err); !ok || e.Closed || e.Code != told.Code {
				t.Fatalf("the receiver says %v", r.err)
			}
			works(t, a, b)
		})
	}
}

// failing is a source that ends early.
type failing struct{ Array }

var errSource = errors.New("the file is gone")

func (f *failing) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	if i == 3 {
		return nil, errSource
	}
	return f.Array.Cell(g, i, buf)
}

func TestDirectGivenUp(t *testing.T) {
	a, b := tcpPair(t)
	got := receiving(b, ReceiveOptions{})
	src := &failing{testArray(t, "|u1", array.Shape{30 << 20}, nil)}
	_, err := SendFrom(context.Background(), a, "file", src, Config{}, PutOptions{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Closed || !errors.Is(err, errSource) {
		t.Fatalf("the sender says %v", err)
	}
	r := wait(t, got)
	if e, ok := errors.AsType[*Error](r.err); !ok || e.Closed || e.Code != wire.CodeCancelled {
		t.Fatalf("the receiver says %v", r.err)
	}
	works(t, a, b)
}

// damaging changes one byte on its way, and one of each of the next cells.
type damaging struct {
	net.Conn
	at, seen int
	cells    int // how many cells it damages, at byte 5000
}

func (d *damaging) Write(p []byte) (int, error) {
	if at := d.at - d.seen; at >= 0 && at < len(p) {
		p = bytes.Clone(p)
		p[at] ^= 16
	}
	if len(p) > 5000 && d.cells > 0 {
		d.cells--
		p = bytes.Clone(p)
		p[5000] ^= 16
	}
	d.seen += len(p)
	return d.Conn.Write(p)
}

func TestDirectDamage(t *testing.T) {
	x := testArray(t, "<f8", array.Shape{500, 100}, nil)
	for _, at := range []int{2, 50, 200, 300, 5000, 200_000} {
		a, b := tcpPair(t)
		got := receiving(b, ReceiveOptions{})
		_, err := Send(context.Background(), &damaging{Conn: a, at: at}, x, PutOptions{})
		r := wait(t, got)
		if at >= 5000 {
			if err != nil || r.err != nil || !bytes.Equal(r.a.Data, x.Data) {
				t.Fatalf("byte %d: the sender says %v, the receiver %v", at, err, r.err)
			}
			works(t, a, b)
			continue
		}
		told, _ := errors.AsType[*Error](err)
		found, _ := errors.AsType[*Error](r.err)
		if told == nil || found == nil || told.Closed != found.Closed {
			t.Fatalf("byte %d: the sender says %v, the receiver %v", at, err, r.err)
		}
	}
}

// TestDirectDamageOften damages the cells of a whole array, some of them several times, and then too often.
func TestDirectDamageOften(t *testing.T) {
	x := testArray(t, "<f8", array.Shape{500, 100}, nil)
	for _, codec := range []string{"none", "lz4"} {
		for _, cells := range []int{1, 2, 8, 20, 1000} {
			a, b := tcpPair(t)
			got := receiving(b, ReceiveOptions{})
			link := &damaging{Conn: a, at: -1, cells: cells}
			_, err := Send(context.Background(), link, x, PutOptions{ChunkBytes: 100_000, Codec: codec})
			r := wait(t, got)
			switch {
			case cells == 1000:
				found, _ := errors.AsType[*Error](r.err)
				if !errors.Is(err, ErrIntegrity) || !errors.Is(r.err, ErrIntegrity) || found.Closed {
					t.Errorf("%s, every cell: the sender says %v, the receiver %v", codec, err, r.err)
				}
			case err != nil || r.err != nil || !bytes.Equal(r.a.Data, x.Data):
				t.Errorf("%s, %d cells: the sender says %v, the receiver %v", codec, cells, err, r.err)
			case link.cells != 0:
				t.Errorf("%s: %d of %d damages were not made", codec, link.cells, cells)
			}
			works(t, a, b)
		}
	}
}

func TestDirectBothSides(t *testing.T) {
	a, b := tcpPair(t)
	x := testArray(t, "|u1", array.Shape{9}, nil)
	done := make(chan error, 1)
	go func() {
		_, err := Send(context.Background(), b, x, PutOptions{})
		done <- err
	}()
	_, err := Send(context.Background(), a, x, PutOptions{})
	if e, ok := errors.AsType[*Error](err); !ok || !e.Closed {
		t.Errorf("two senders: %v", err)
	}
	if <-done == nil {
		t.Error("the other sender succeeded")
	}
	a, b = tcpPair(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	got := receiving(b, ReceiveOptions{})
	if _, _, err := Receive(ctx, a, ReceiveOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("two receivers: %v", err)
	}
	if r := wait(t, got); r.err == nil {
		t.Error("the other receiver succeeded")
	}
}

// TestSendToOneThatDecodesNothing asks for a codec that the receiver does not decode: nothing was begun, so the stream is closed, and
// no frame comes that belongs to no stream.
func TestSendToOneThatDecodesNothing(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	frames := make(chan []wire.Header, 1)
	go func() {
		hello := wire.NewHello("plain", wire.MaxCredit)
		hello.Codecs = []string{wire.CodecNone}
		go there.Write(wire.EncodeFrame(wire.Header{Kind: wire.Hello, Flags: wire.Critical}, hello))
		d, seen, buf := wire.Decoder{}, []wire.Header(nil), make([]byte, 4096)
		for {
			n, err := there.Read(buf)
			d.Feed(buf[:n])
			for f, ok, _ := d.Next(); ok; f, ok, _ = d.Next() {
				seen = append(seen, f.Header)
			}
			if err != nil {
				frames <- seen
				return
			}
		}
	}()
	u1, _ := array.ParseDType("|u1")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := Send(ctx, here, Array{DType: u1, Shape: array.Shape{1000}, Data: make([]byte, 1000)}, PutOptions{Codec: "lz4"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != wire.CodeUnsupported {
		t.Errorf("error %v", err)
	}
	if seen := <-frames; len(seen) != 1 || seen[0].Kind != wire.Hello {
		t.Errorf("the receiver got %v", seen)
	}
}
