package frozen

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/worker"
	"ndferry/store/dir"
	"ndferry/wire"
)

// id is a transfer id of a recording.
func id(n int) string { return fmt.Sprintf("%032x", 0xf0000+n) }

const structured = `{"names":["a","b"],"formats":["<i2",">f4"],"offsets":[0,4],"itemsize":8,"titles":["first",null],"aligned":true}`

// kinds are puts of every kind of array that both clients can say.
func kinds() []call {
	pattern := "0123456789abcdef00ff7f80"
	bits := "000100000101"
	list := []call{
		{Name: "kinds/f4", NumPy: jsontext.Value(`"<f4"`), Shape: []int{5, 7}, Cell: []int{2, 4}, Data: pattern, Attrs: `{"unit":"K","n":1.50,"list":[1,"two",null]}`},
		{Name: "kinds/f8-fortran", NumPy: jsontext.Value(`"<f8"`), Shape: []int{3, 4, 2}, Order: "F", Data: pattern},
		{Name: "kinds/i2-big", NumPy: jsontext.Value(`">i2"`), Shape: []int{9}, Cell: []int{4}, Data: pattern, Digest: "sha256"},
		{Name: "kinds/bool", NumPy: jsontext.Value(`"|b1"`), Shape: []int{2, 5}, Data: bits},
		{Name: "kinds/u1", NumPy: jsontext.Value(`"|u1"`), Shape: []int{300}, Cell: []int{128}, Data: pattern},
		{Name: "kinds/c16", NumPy: jsontext.Value(`"<c16"`), Shape: []int{2, 2}, Data: pattern},
		{Name: "kinds/time", NumPy: jsontext.Value(`"<M8[25s]"`), Shape: []int{4}, Data: pattern},
		{Name: "kinds/delta", NumPy: jsontext.Value(`">m8"`), Shape: []int{3}, Data: pattern},
		{Name: "kinds/bytes", NumPy: jsontext.Value(`"|S5"`), Shape: []int{3}, Data: "6162630000"},
		{Name: "kinds/text", NumPy: jsontext.Value(`"<U3"`), Shape: []int{2}, Data: "61000000fc00000000000000"},
		{Name: "kinds/void", NumPy: jsontext.Value(`"|V7"`), Shape: []int{2}, Data: pattern},
		{Name: "kinds/struct", NumPy: jsontext.Value(structured), Shape: []int{3}, Data: "0100000040490fdb"},
		{Name: "kinds/scalar", NumPy: jsontext.Value(`"<f8"`), Shape: []int{}, Data: "182d4454fb210940"},
		{Name: "kinds/empty", NumPy: jsontext.Value(`"<i4"`), Shape: []int{0, 3}},
		{Name: "kinds/bfloat16", NumPy: jsontext.Value(`"bfloat16"`), Shape: []int{6}, Data: "803f0040"},
		{Name: "kinds/float8", NumPy: jsontext.Value(`"float8_e4m3fn"`), Shape: []int{6}, Data: "38404448"},
		{Name: "codecs/lz4", NumPy: jsontext.Value(`"<i4"`), Shape: []int{600}, Cell: []int{256}, Data: "01000000020000000300000004000000", Codec: "lz4"},
		{Name: "codecs/zlib-bit", NumPy: jsontext.Value(`"<f4"`), Shape: []int{600}, Cell: []int{256}, Data: "0000803f000000400000404000008040", Codec: "zlib", Shuffle: "bit"},
		{Name: "codecs/zstd-sha256", NumPy: jsontext.Value(`"<u2"`), Shape: []int{20, 30}, Cell: []int{10, 30}, Data: "01000200030004000500", Codec: "zstd", Shuffle: "none", Digest: "sha256"},
		{Name: "relaxed", NumPy: jsontext.Value(`"<f4"`), Shape: []int{10}, Data: pattern, Relaxed: true},
	}
	for i := range list {
		list[i].Op, list[i].ID = "put", id(100+i)
	}
	return list
}

// sparse are puts of arrays that the Python client sends with ALIAS and FILL.
func sparse() []call {
	return []call{
		{Op: "put", Name: "sparse/repeat", ID: id(200), NumPy: jsontext.Value(`"<f4"`), Shape: []int{8}, Broadcast: []int{6, 8}, Cell: []int{1, 8}, Data: "0123456789abcdef00ff7f80"},
		{Op: "put", Name: "sparse/constant", ID: id(201), NumPy: jsontext.Value(`"<i4"`), Shape: []int{1}, Broadcast: []int{40, 40}, Data: "2a000000"},
	}
}

// reading are the calls that look at arrays.
func reading(puts []call) (list []call) {
	list = append(list, call{Op: "list"})
	for _, p := range puts {
		for _, op := range []string{"stat", "get", "verify"} {
			list = append(list, call{Op: op, Name: p.Name})
		}
	}
	return list
}

// unfinished is a transfer of which two of three cells are in the frozen store.
func unfinished() call {
	return call{Op: "put", Name: "unfinished", ID: id(301), NumPy: jsontext.Value(`"|u1"`), Shape: []int{600}, Cell: []int{256}, Data: "00112233445566778899aabbccddeeff", Resume: true}
}

func replaced() call {
	return call{Op: "put", Name: "replaced", ID: id(302), NumPy: jsontext.Value(`"<i2"`), Shape: []int{4}, Data: "0102"}
}

func deleted() call {
	return call{Op: "put", Name: "gone/deleted", ID: id(303), NumPy: jsontext.Value(`"<i2"`), Shape: []int{4}, Data: "0304"}
}

func replacement() call {
	c := replaced()
	c.ID, c.Data = id(304), "0506"
	return c
}

// buildStore writes the frozen store.
func buildStore(t *testing.T) {
	path := filepath.Join(root, "store")
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	st, err := dir.Open(path, dir.Config{Now: clock, Owner: "recorder", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("store", func(t *testing.T) {
		s := serve(t, st, worker.GoroutineDriver)
		c, err := client.Dial(t.Context(), "unix://"+s.path, client.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, p := range append(kinds(), replaced(), replacement(), deleted()) {
			perform(t, c, p)
		}
		perform(t, c, call{Op: "delete", Name: deleted().Name})
		p := newProxy(t, s, &transcript{}, nil)
		p.python(t, &transcript{calls: sparse()})
		p.end()
		leaveUnfinished(t, s)
	})
	writeForeign(t, filepath.Join(path, "zarr", "foreign"))
	for _, name := range []string{"lock", "names", "visible", "claims", "trash"} { // of processes that live
		if err := os.RemoveAll(filepath.Join(path, "state", name)); err != nil {
			t.Fatal(err)
		}
	}
}

// leaveUnfinished begins a transfer and breaks off.
func leaveUnfinished(t *testing.T, s *server) {
	c := unfinished()
	data, err := c.bytes(1)
	if err != nil {
		t.Fatal(err)
	}
	sc := &script{t: t, s: s, tr: &transcript{}, conns: map[int]net.Conn{}}
	sc.greet(1)
	msg := message(t, c)
	msg.Resume = true
	sc.say(1, frame(wire.Put, 1, 0, 0, wire.Encode(msg)))
	sc.hear(1, wire.Accept)
	sc.say(1, frame(wire.Chunk, 1, 0, 256, data[:256]), frame(wire.Chunk, 1, 1, 256, data[256:512]))
	sc.say(1, frame(wire.Cancel, 1, 0, 0, nil))
	b, err := readFrame(sc.conn(1))
	if h, e := wire.ParseHeader(b); err != nil || e != nil || h.Kind != wire.Fail {
		t.Fatalf("%x, error %v", b, err)
	}
}

// message is the PUT of a call, with codec none.
func message(t testing.TB, c call) wire.PutMessage {
	t.Helper()
	d, err := array.ParseNumPy(c.NumPy)
	if err != nil {
		t.Fatal(err)
	}
	cell := array.Shape(c.Cell)
	if cell == nil {
		cell = array.DefaultCell(c.Shape, nil, d.ItemSize(), client.DefaultChunk)
	}
	meta := array.Meta{Shape: c.Shape, DType: d, Cell: cell, Order: array.COrder(len(c.Shape)), DimNames: array.DefaultDimNames(c.Name, len(c.Shape))}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := wire.PutMessage{Name: c.Name, Array: text, NumPy: c.NumPy, Digest: c.Digest}
	if err := m.ID.UnmarshalText([]byte(c.ID)); err != nil {
		t.Fatal(err)
	}
	return m
}

// writeForeign writes an array as another program would.
func writeForeign(t testing.TB, path string) {
	files := map[string]string{
		"zarr.json": `{"zarr_format":3,"node_type":"array","shape":[3,4],"data_type":"int16","chunk_grid":{"name":"regular","configuration":{"chunk_shape":[2,4]}},` +
			`"chunk_key_encoding":{"name":"default","configuration":{"separator":"/"}},"fill_value":7,"codecs":[{"name":"bytes","configuration":{"endian":"little"}}],"attributes":{"by":"hand"}}`,
		"c/0/0": "\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00\x06\x00\x07\x00\x08\x00",
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(path, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
