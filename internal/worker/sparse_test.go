package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"ndferry/array"
	"ndferry/client"
	"ndferry/wire"
)

// tally counts the frames that come and go on a client's connection, by kind.
type tally struct {
	net.Conn
	in, out counter
}

// counter finds the frames in a stream.
type counter struct {
	header []byte
	skip   int
	kinds  [256]atomic.Int64
}

func (c *counter) see(p []byte) {
	for len(p) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(p))
			c.skip, p = c.skip-n, p[n:]
			continue
		}
		n := min(wire.HeaderSize-len(c.header), len(p))
		c.header, p = append(c.header, p[:n]...), p[n:]
		if len(c.header) == wire.HeaderSize {
			c.kinds[c.header[4]].Add(1)
			if c.skip = int(binary.LittleEndian.Uint32(c.header[12:])); c.skip > 0 {
				c.skip += wire.TrailerSize
			}
			c.header = c.header[:0]
		}
	}
}

func (c *counter) count(k wire.Kind) int { return int(c.kinds[k].Swap(0)) }

func (t *tally) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.in.see(p[:n])
	return n, err
}

func (t *tally) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	t.out.see(p[:n])
	return n, err
}

func dialTally(t testing.TB, addr string) (*client.Client, *tally) {
	t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	counted := &tally{Conn: conn}
	c, err := client.New(context.Background(), counted, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, counted
}

// viewed is what the elements of a view are, in C order.
func viewed(v *client.View) []byte {
	item := v.DType.ItemSize()
	out := []byte{}
	at := make([]int, len(v.Shape))
	n, _ := v.Shape.Elements()
	for range n {
		from := v.Offset
		for axis, x := range at {
			from += x * v.Strides[axis]
		}
		out = append(out, v.Data[from:from+item]...)
		for axis := len(at) - 1; axis >= 0; axis-- {
			if at[axis]++; at[axis] < v.Shape[axis] {
				break
			}
			at[axis] = 0
		}
	}
	return out
}

// inC is an array with its elements in C order.
func inC(a *client.Array) []byte {
	dst := array.Box{Shape: a.Shape, Data: make([]byte, len(a.Data))}
	zero := make(array.Shape, len(a.Shape))
	array.CopyRegion(dst, zero, array.Box{Shape: a.Shape, Order: a.Order, Data: a.Data}, zero, a.Shape, a.DType.ItemSize())
	return dst.Data
}

// TestBroadcast puts views that repeat, which travel once in both directions, with every codec and digest, over both stores, into memory
// and into files, over one connection and several.
func TestBroadcast(t *testing.T) { eachDriver(t, testBroadcast) }

func testBroadcast(t *testing.T, driver string) {
	const rows, columns = 37, 50_000
	tests := map[string]func() *client.View{
		"rows": func() *client.View {
			return &client.View{DType: dtype(t, "<f4"), Shape: array.Shape{rows, columns}, Strides: array.Strides{0, 4}, Data: unlike(4 * columns)}
		},
		"columns, backwards": func() *client.View {
			return &client.View{DType: dtype(t, ">i2"), Shape: array.Shape{columns, rows}, Strides: array.Strides{-2, 0}, Offset: 2*columns - 2, Data: unlike(2 * columns)}
		},
		"planes": func() *client.View {
			return &client.View{DType: dtype(t, "<c8"), Shape: array.Shape{3, 5, columns, 1}, Strides: array.Strides{0, 0, 8, 77}, Data: unlike(8 * columns)}
		},
	}
	for name, open := range stores {
		for what, view := range tests {
			t.Run(name+" "+what, func(t *testing.T) {
				_, addr := serve(t, open(t), Config{Driver: driver})
				c, counted := dialTally(t, addr)
				v := view()
				want := viewed(v)
				for i, opts := range []client.PutOptions{
					{}, {Digest: client.SHA256, ChunkBytes: 64 << 10}, {Codec: "lz4"}, {Codec: "zstd", Digest: client.SHA256, ChunkBytes: 100 << 10},
					{Codec: "zlib", Retries: 2, Streams: 3}, {Retries: 2, Digest: client.SHA256},
				} {
					counted.out.count(wire.Chunk)
					r, err := c.PutFrom(context.Background(), "a", v, opts)
					if err != nil {
						t.Fatal(i, err)
					}
					sent, said := counted.out.count(wire.Chunk), counted.out.count(wire.Alias)
					distinct := len(v.Data)
					if sent*(len(want)/distinct) != r.Cells || said == 0 || r.StoredBytes > int64(distinct)+distinct64k {
						t.Errorf("%d: %d of %d cells and %d ALIAS sent, %d bytes stored of %d", i, sent, r.Cells, said, r.StoredBytes, distinct)
					}
					counted.in.count(wire.Chunk)
					b, err := c.Get(context.Background(), "a", client.GetOptions{})
					if err != nil || !bytes.Equal(inC(b), want) {
						t.Fatalf("%d: came back different, %v", i, err)
					}
					if got, said := counted.in.count(wire.Chunk), counted.in.count(wire.Alias); got != sent || got+said != r.Cells {
						t.Errorf("%d: %d cells and %d ALIAS came, %d were sent", i, got, said, sent)
					}
					part, err := c.Read(context.Background(), "a", array.Region{Start: backFrom(v.Shape), Count: v.Shape, Step: minusOnes(v.Shape)}, nil)
					if err != nil || !bytes.Equal(part.Data, backwards(want, v.DType.ItemSize())) {
						t.Errorf("%d: the array from its end: %v", i, err)
					}
					rep, err := c.Verify(context.Background(), "a", nil)
					if err != nil || len(rep.Problems) > 0 {
						t.Errorf("%d: verify: %+v, %v", i, rep, err)
					}
					getFile(t, dial(t, addr), "a", want, v, client.GetOptions{Streams: i % 3})
				}
			})
		}
	}
}

const distinct64k = 64 << 10 // what lies in containers of the last cells, and padding

// getFile gets into a .npy file, where repeats are made of what is in the file.
func getFile(t *testing.T, c *client.Client, name string, want []byte, v *client.View, opts client.GetOptions) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.npy")
	sink, err := client.CreateNPY(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if _, err := c.GetTo(context.Background(), name, sink, opts); err != nil {
		t.Fatal(err)
	}
	if err := sink.Commit(); err != nil {
		t.Fatal(err)
	}
	f, err := client.OpenNPY(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, shape, order := f.Describe()
	grid, err := array.NewGrid(shape, shape, order)
	if err != nil {
		t.Fatal(err)
	}
	a := &client.Array{DType: d, Shape: shape, Order: order, Data: make([]byte, len(want))}
	if _, err := f.Cell(grid, 0, a.Data); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if !shape.Equal(v.Shape) || !bytes.Equal(inC(a), want) {
		t.Errorf("the file has %v of %v, or other elements", shape, d)
	}
}

// unlike is n bytes that no shift makes the same.
func unlike(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i ^ i>>8 ^ i>>16*7)
	}
	return p
}

func backFrom(shape array.Shape) array.Shape {
	last := make(array.Shape, len(shape))
	for i, n := range shape {
		last[i] = n - 1
	}
	return last
}

func minusOnes(shape array.Shape) []int {
	steps := make([]int, len(shape))
	for i := range steps {
		steps[i] = -1
	}
	return steps
}

func backwards(p []byte, item int) []byte {
	out := make([]byte, 0, len(p))
	for at := len(p) - item; at >= 0; at -= item {
		out = append(out, p[at:at+item]...)
	}
	return out
}

// TestConstant puts arrays of one element, of which no cell travels.
func TestConstant(t *testing.T) { eachDriver(t, testConstant) }

func testConstant(t *testing.T, driver string) {
	items := map[string]string{
		"<f4": "\x01\x00\xc0\x7f", "<f8": "\x00\x00\x00\x00\x00\x00\xf0\xff", ">f2": "\x80\x00", "<i8": "\x00\x00\x00\x00\x00\x00\x00\x80",
		">u8": "\xff\xff\xff\xff\xff\xff\xff\xff", "|b1": "\x01", "<c16": "\x18\x2d\x44\x54\xfb\x21\x09\x40\x00\x00\x00\x00\x00\x00\x00\x80",
		"<M8[ns]": "\x00\x00\x00\x00\x00\x00\x00\x80", "|S5": "ab\x00c\x00", "<U2": "h\x00\x00\x00\xe4\x00\x00\x00", "|V3": "\x01\x02\x03",
		"bfloat16": "\xc0\x7f", "float8_e4m3fn": "\x7f",
		`{"names":["a","b"],"formats":["|u1",">f8"],"offsets":[0,8],"itemsize":16,"aligned":true}`: "\x07\x00\x00\x00\x00\x00\x00\x00\x3f\xf8\x00\x00\x00\x00\x00\x00",
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, open(t), Config{Driver: driver})
			c, counted := dialTally(t, addr)
			for dt, item := range items {
				d, err := array.ParseNumPy([]byte(numpyText(dt)))
				if err != nil {
					t.Fatal(dt, err)
				}
				n := 300_000 / len(item)
				a := client.Array{DType: d, Shape: array.Shape{n}, Data: bytes.Repeat([]byte(item), n)}
				for _, opts := range []client.PutOptions{{ChunkBytes: 40_000}, {Digest: client.SHA256, Retries: 1, ChunkBytes: 40_000}, {Codec: "zstd", Streams: 2, ChunkBytes: 40_000}} {
					counted.out.count(wire.Chunk)
					r, err := c.Put(context.Background(), "c", a, opts)
					if err != nil {
						t.Fatal(dt, err)
					}
					if sent := counted.out.count(wire.Chunk); sent != 0 || r.StoredBytes != 0 || r.Cells < 5 {
						t.Errorf("%s: %d cells sent, %+v", dt, sent, r)
					}
					b, err := c.Get(context.Background(), "c", client.GetOptions{})
					if err != nil || !bytes.Equal(b.Data, a.Data) || !b.DType.Equal(d) {
						t.Errorf("%s: came back different, %v", dt, err)
					}
					if got := counted.in.count(wire.Chunk); got != 0 {
						t.Errorf("%s: %d cells came", dt, got)
					}
				}
				// One other element, anywhere, and all of it travels.
				a.Data[len(a.Data)/2] ^= 1
				if r, err := c.Put(context.Background(), "c", a, client.PutOptions{ChunkBytes: 40_000}); err != nil || r.StoredBytes == 0 {
					t.Errorf("%s: an element differs: %+v, %v", dt, r, err)
				}
			}
		})
	}
}

func numpyText(dt string) string {
	if strings.HasPrefix(dt, "{") {
		return dt
	}
	return `"` + dt + `"`
}

// TestViews puts any view of any memory.
func TestViews(t *testing.T) {
	audit(t)
	_, addr := serve(t, stores["mem"](t), Config{})
	c := dial(t, addr)
	dtypes := []string{`"|u1"`, `">i2"`, `"<f8"`, `">c16"`, `"|S3"`, `"bfloat16"`, `{"names":["a","b"],"formats":["|u1",">f8"],"offsets":[0,8],"itemsize":16}`}
	rapid.Check(t, func(t *rapid.T) {
		d, err := array.ParseNumPy([]byte(rapid.SampledFrom(dtypes).Draw(t, "dtype")))
		if err != nil {
			t.Fatal(err)
		}
		ndim := rapid.IntRange(0, 4).Draw(t, "ndim")
		v := &client.View{DType: d, Shape: make(array.Shape, ndim), Strides: make(array.Strides, ndim), Data: unlike(1 << 20)}
		cell := make(array.Shape, ndim)
		v.Offset = rapid.IntRange(1<<18, 1<<19).Draw(t, "offset")
		for axis := range v.Shape {
			v.Shape[axis] = rapid.IntRange(0, 30).Draw(t, "length")
			v.Strides[axis] = rapid.OneOf(rapid.Just(0), rapid.IntRange(-2000, 2000), rapid.Just(d.ItemSize())).Draw(t, "stride")
			cell[axis] = rapid.IntRange(1, 40).Draw(t, "chunk")
		}
		if _, err := client.NewView(d, v.Shape, v.Strides, v.Offset, v.Data); err != nil {
			t.Fatal(err)
		}
		opts := client.PutOptions{
			Codec:  rapid.SampledFrom([]string{"", "none", "lz4", "zstd"}).Draw(t, "codec"),
			Digest: rapid.SampledFrom([]string{client.CRC32C, client.SHA256}).Draw(t, "digest"),
		}
		if rapid.Bool().Draw(t, "chunks") {
			opts.Cell = cell
		}
		if n, _ := cell.Bytes(d.ItemSize()); n > wire.MaxCell || d.Kind() == array.Struct {
			opts.Cell = nil
		}
		if _, err := c.PutFrom(context.Background(), "v", v, opts); err != nil {
			t.Fatal(err)
		}
		b, err := c.Get(context.Background(), "v", client.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, want := inC(b), viewed(v)
		if d.Kind() == array.Struct { // bytes between fields are not carried
			for at := 0; at < len(want); at += 16 {
				clear(want[at+1 : at+8])
			}
		}
		if !b.Shape.Equal(v.Shape) || !b.DType.Equal(d) || !bytes.Equal(got, want) {
			t.Fatalf("%v %v %v came back different", d, v.Shape, v.Strides)
		}
	})
}

// TestNewView refuses what reaches beyond the memory.
func TestNewView(t *testing.T) {
	audit(t)
	d := dtype(t, "<f8")
	for i, v := range []client.View{
		{Shape: array.Shape{3}, Strides: array.Strides{8}, Data: make([]byte, 23)},
		{Shape: array.Shape{3}, Strides: array.Strides{-8}, Offset: 8, Data: make([]byte, 99)},
		{Shape: array.Shape{3}, Strides: array.Strides{1 << 62}, Data: make([]byte, 99)},
		{Shape: array.Shape{1 << 40, 1 << 40}, Strides: array.Strides{0, 0}, Data: make([]byte, 8)},
		{Shape: array.Shape{1}, Strides: array.Strides{}, Data: make([]byte, 8)},
		{Shape: array.Shape{1}, Strides: array.Strides{8}, Offset: -1, Data: make([]byte, 8)},
		{Shape: array.Shape{1}, Strides: array.Strides{8}, Offset: 1, Data: make([]byte, 8)},
	} {
		if _, err := client.NewView(d, v.Shape, v.Strides, v.Offset, v.Data); err == nil {
			t.Error(i, v.Shape, v.Strides)
		}
	}
}
