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

// plainPeer is a receiver that decodes no codec: it answers the HELLO, and every array with whatever the sender's last frame asks for.
func plainPeer(nc net.Conn, kinds chan<- []wire.Kind) error {
	in := &exactReader{r: nc}
	send := func(h wire.Header, payload []byte) error {
		_, err := nc.Write(wire.AppendFrame(nil, h, payload))
		return err
	}
	hello := wire.NewHello("plain", directWindow)
	hello.Codecs = []string{wire.CodecNone}
	if err := send(wire.Header{Kind: wire.Hello, Flags: wire.Critical}, wire.Encode(hello)); err != nil {
		return err
	}
	var seen []wire.Kind
	c := direct(nc, Config{})
	c.in = in
	for {
		h, err := c.header()
		if err != nil {
			return err
		}
		if _, err := c.control(h); err != nil {
			return err
		}
		if h.Kind == wire.Hello {
			continue
		}
		if seen = append(seen, h.Kind); h.Kind == wire.Cancel {
			kinds <- seen
			return send(wire.Header{Kind: wire.Fail, Stream: h.Stream}, wire.Encode(wire.Failf(wire.CodeCancelled, "given up")))
		}
	}
}

// TestDirectNoCodec asks a receiver that decodes nothing for lz4: a PUT that is given up says so, and the stream is at a boundary.
func TestDirectNoCodec(t *testing.T) {
	a, b := tcpPair(t)
	kinds, done := make(chan []wire.Kind, 1), make(chan error, 1)
	go func() { done <- plainPeer(b, kinds) }()
	_, err := Send(context.Background(), a, testArray(t, "<f4", array.Shape{1000}, nil), PutOptions{Codec: "lz4"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Closed || e.Code != wire.CodeUnsupported {
		t.Fatalf("the sender says %v", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("the receiver: %v", err)
	}
	if seen := <-kinds; !slices.Equal(seen, []wire.Kind{wire.Put, wire.Cancel}) {
		t.Fatalf("the sender sent %v", seen)
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
