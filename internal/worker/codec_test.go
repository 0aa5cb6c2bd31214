package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// smooth fills an array with a wave, which compresses and is not constant.
func smooth(a client.Array) client.Array {
	size := a.DType.ItemSize()
	for i := 0; i+size <= len(a.Data); i += size {
		v := math.Float64bits(math.Round(1000 * math.Sin(float64(i)/5000)))
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		copy(a.Data[i:i+size], b[8-min(size, 8):])
	}
	return a
}

// TestCodecs carries every codec, shuffle and size of element through the server and back, with padded cells.
func TestCodecs(t *testing.T) { eachDriver(t, testCodecs) }

func testCodecs(t *testing.T, driver string) {
	rng := rand.New(rand.NewPCG(5, 5))
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, open(t), Config{Driver: driver})
			c := dial(t, addr)
			ctx := context.Background()
			n := 0
			for _, cname := range []string{"auto", "none", "lz4", "zlib", "zstd"} {
				for _, shuffle := range []string{"", "auto", "none", "byte", "bit"} {
					for _, dt := range []string{"|u1", "<i2", ">f4", "<f8", "<c16"} {
						if n++; name == "dir" && n%3 != 0 { // commits wait for the disk
							continue
						}
						a := smooth(random(t, rng, dt, array.Shape{37, 501}, array.Order{n % 2, 1 - n%2}))
						level := rng.IntN(10)
						opts := client.PutOptions{Codec: cname, Shuffle: shuffle, Level: &level, Cell: array.Shape{9, 100}, LinkRate: 1e6}
						if n%2 == 0 {
							opts.Digest = client.SHA256
						}
						what := fmt.Sprintf("%s %d %s %s", cname, level, shuffle, dt)
						r, err := c.Put(ctx, "x", a, opts)
						if err != nil {
							t.Fatalf("%s: put: %v", what, err)
						}
						if (cname != "auto" && (r.Codec != cname || r.CodecWhy != "")) || cname == "auto" && (r.Codec == "none" || r.CodecWhy == "") || r.Validated != "full" {
							t.Fatalf("%s: receipt %+v", what, r)
						}
						if padded := int64(45 * 600 * a.DType.ItemSize()); r.Codec != "none" && level > 0 && r.StoredBytes >= padded || r.StoredBytes > padded+30*16 {
							t.Errorf("%s: %d bytes stored of %d", what, r.StoredBytes, padded)
						}
						b, err := c.Get(ctx, "x", client.GetOptions{})
						if err != nil || !bytes.Equal(a.Data, b.Data) {
							t.Fatalf("%s: get: %v", what, err)
						}
						st, err := c.Stat(ctx, "x")
						if err != nil || st.Codec != r.Codec || st.CodecWhy != r.CodecWhy || st.StoredBytes != r.StoredBytes {
							t.Fatalf("%s: stat %+v, %v", what, st, err)
						}
						if rep, err := c.Verify(ctx, "x", nil); err != nil {
							t.Fatalf("%s: verify: %+v, %v", what, rep, err)
						}
					}
				}
			}
		})
	}
}

// TestAuto_local puts what compresses well to a server on this machine: it stays mappable.
func TestAuto_local(t *testing.T) { eachDriver(t, testAuto_local) }

func testAuto_local(t *testing.T, driver string) {
	_, addr := serve(t, stores["mem"](t), Config{Driver: driver})
	c := dial(t, addr)
	a := client.Array{DType: dtype(t, "<f8"), Shape: array.Shape{1 << 17}, Data: varied(1 << 20)}
	r, err := c.Put(context.Background(), "zeros", a, client.PutOptions{})
	if err != nil || r.Codec != "none" || r.CodecWhy == "" || r.StoredBytes != 1<<20 {
		t.Fatalf("%+v, %v", r, err)
	}
	r, err = c.Put(context.Background(), "zeros", a, client.PutOptions{LinkRate: 1e6})
	if err != nil || r.Codec == "none" || r.StoredBytes > 1<<14 {
		t.Fatalf("a slow link: %+v, %v", r, err)
	}
}

// TestCodec_refused sees that what cannot be is refused before a byte is sent.
func TestCodec_refused(t *testing.T) {
	audit(t)
	near, far := net.Pipe()
	go func() { // a server that is silent after its HELLO
		buf := make([]byte, 4096)
		far.Read(buf)
		far.Write(hello())
		n, _ := far.Read(buf)
		if n > 0 {
			t.Errorf("%d bytes were sent", n)
		}
	}()
	c, err := client.New(context.Background(), near, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	a := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{4}, Data: make([]byte, 4)}
	for _, opts := range []client.PutOptions{
		{Codec: "gzip"}, {Codec: "blosclz"}, {Shuffle: "bytes"}, {Level: new(10)}, {Level: new(-1)}, {LinkRate: -1}, {Digest: "md5"},
		{Codec: "none", Level: new(11)},
	} {
		if _, err := c.Put(context.Background(), "a", a, opts); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	c.Close()
	far.Close()
}

// hostileSize is the raw size of the cells of TestHostileChunks.
const hostileSize = 1 << 16

// hostileChunks are containers that lie, by what they lie about, and a good one of each codec.
func hostileChunks(t *testing.T) (hostile, good map[string][]byte) {
	const size = hostileSize
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(i * i >> 9)
	}
	good = map[string][]byte{}
	var err error
	for _, n := range []codec.Name{codec.LZ4, codec.Zlib, codec.Zstd} {
		if good[n.String()], err = codec.AppendEncode(nil, raw, codec.Default(n, 1)); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good["zstd"])) }
	le := binary.LittleEndian
	bomb, err := codec.AppendEncode(nil, make([]byte, 16<<20), codec.Default(codec.Zstd, 1))
	if err != nil {
		t.Fatal(err)
	}
	hostile = map[string][]byte{
		"more than raw":   edit(func(b []byte) []byte { le.PutUint32(b[4:], size+1); return b }),
		"less than raw":   edit(func(b []byte) []byte { le.PutUint32(b[4:], size-1); return b }),
		"huge":            edit(func(b []byte) []byte { le.PutUint32(b[4:], 1<<31-17); return b }),
		"bomb":            bomb[:min(len(bomb), size)],
		"cut":             edit(func(b []byte) []byte { return b[:len(b)/2] }),
		"cut, told":       edit(func(b []byte) []byte { b = b[:len(b)/2]; le.PutUint32(b[12:], uint32(len(b))); return b }),
		"header":          edit(func(b []byte) []byte { return b[:16] }),
		"version":         edit(func(b []byte) []byte { b[0] = 9; return b }),
		"block of 1":      edit(func(b []byte) []byte { le.PutUint32(b[8:], 1); return b }),
		"table":           edit(func(b []byte) []byte { le.PutUint32(b[16:], 1<<31); return b }),
		"no container":    raw[:size],
		"stream too long": edit(func(b []byte) []byte { le.PutUint32(b[20:], 1<<30); return b }),
	}
	for name, b := range good {
		for _, at := range []int{2, 3, 12, 16, len(b) / 2} {
			flipped := bytes.Clone(b)
			flipped[at] ^= 0x40
			if out := make([]byte, size); codec.Decode(out, flipped) == nil {
				continue // a flip of a literal is a good container of other bytes: the CRC on the way is against that
			}
			hostile[fmt.Sprintf("%s, bit at %d", name, at)] = flipped
		}
	}
	return hostile, good
}

// TestHostileChunks sends containers that lie, each in place of the second of two cells. Nothing may be stored and the connection goes on.
func TestHostileChunks(t *testing.T) { eachDriver(t, testHostileChunks) }

func testHostileChunks(t *testing.T, driver string) {
	const size = hostileSize
	meta := array.Meta{Shape: array.Shape{2, size}, DType: dtype(t, "|u1"), Cell: array.Shape{1, size}, DimNames: array.DefaultDimNames("a", 2)}
	meta.Codecs = []array.Codec{array.Blosc{CName: "zstd", CLevel: 5, Shuffle: "noshuffle", TypeSize: 1}.Codec()}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	hostile, good := hostileChunks(t)
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			st := open(t)
			_, addr := serve(t, st, Config{Driver: driver})
			a, err := client.ParseAddr(addr)
			if err != nil {
				t.Fatal(err)
			}
			nc, err := net.Dial(a.Network, a.Address)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			p := newPeer(t, nc)
			stream := uint32(0)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for what, chunk := range hostile {
				stream++
				msg := wire.PutMessage{Name: "h", ID: wire.ID{byte(stream), 1}, Array: text, NumPy: []byte(`"|u1"`)}
				cell := func(i uint64, b []byte) []byte {
					return wire.AppendFrame(nil, wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: stream, Index: i, Raw: size}, b)
				}
				p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: stream}, wire.Encode(msg)),
					cell(0, good["lz4"]), cell(1, chunk),
					wire.AppendFrame(nil, wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: stream, Index: 2}, nil))
				f := p.next()
				for f.Kind == wire.Credit {
					f = p.next()
				}
				var failure wire.Failure
				if f.Kind != wire.Fail || wire.Decode(f.Payload, &failure) != nil || failure.Code != wire.CodeIntegrity || failure.Cell == nil || *failure.Cell != 1 {
					t.Errorf("%s: %v %s", what, f.Kind, f.Payload)
				}
			}
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("%d bytes allocated for %d hostile chunks", used, len(hostile))
			}
			p.ping()
			if list, _, err := st.List(context.Background(), "", "", 10); err != nil || len(list) > 0 {
				t.Errorf("stored: %+v, %v", list, err)
			}
			if _, err := st.Open(context.Background(), "h"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("open: %v", err)
			}
			// Lengths that no container can have are refused by their header.
			for i, length := range []int{15, size + 17} {
				stream++
				msg := wire.PutMessage{Name: "h", ID: wire.ID{byte(stream), 1}, Array: text, NumPy: []byte(`"|u1"`)}
				p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: stream}, wire.Encode(msg)),
					wire.AppendFrame(nil, wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: stream, Raw: size}, make([]byte, length)))
				f := p.next()
				for f.Kind == wire.Credit {
					f = p.next()
				}
				if f.Kind != wire.Fail || !bytes.Contains(f.Payload, []byte(`"invalid"`)) {
					t.Errorf("length %d: %v %s", i, f.Kind, f.Payload)
				}
			}
		})
	}
}
