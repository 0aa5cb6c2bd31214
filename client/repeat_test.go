package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
	"ndferry/wire"
)

// answering is a server of one GET, of four cells of four bytes, that answers with META and the frames.
func answering(t *testing.T, frames ...[]byte) *Client {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	dtype, err := array.ParseDType("|u1")
	if err != nil {
		t.Fatal(err)
	}
	meta := array.Meta{Shape: array.Shape{4, 4}, DType: dtype, Cell: array.Shape{1, 4}, DimNames: array.DefaultDimNames("a", 2)}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		read := func() wire.Header {
			b := make([]byte, wire.HeaderSize)
			if _, err := io.ReadFull(far, b); err != nil {
				return wire.Header{}
			}
			h, err := wire.ParseHeader(b)
			if err != nil {
				return wire.Header{}
			}
			if h.Length > 0 {
				io.CopyN(io.Discard, far, int64(h.Length)+wire.TrailerSize)
			}
			return h
		}
		read()
		far.Write(wire.AppendFrame(nil, wire.Header{Kind: wire.Hello, Flags: wire.Critical}, wire.Encode(wire.NewHello("test", 1<<30))))
		for read().Kind != wire.Get {
		}
		m := wire.MetaMessage{
			Name: "a", ID: wire.ID{1}, Array: jsontext.Value(text), Attributes: "{}", Bytes: 16, StoredBytes: 16, Cells: 4, Codec: "none",
			Digest: wire.Digest{Kind: CRC32C}, Durability: "memory", Created: time.Now().UTC(),
		}
		far.Write(wire.AppendFrame(nil, wire.Header{Kind: wire.Meta, Stream: 1}, wire.Encode(m)))
		for _, f := range frames {
			if _, err := far.Write(f); err != nil {
				return
			}
		}
		for read().Kind != 0 {
		}
	}()
	c, err := New(context.Background(), near, Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func chunk(cell int, data string) []byte {
	h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: 1, Index: uint64(cell), Raw: 4, Length: 4}
	return wire.AppendFrame(nil, h, []byte(data))
}

func alias(first, count, source int) []byte {
	h := wire.Header{Kind: wire.Alias, Flags: wire.Critical, Stream: 1, Index: uint64(first), Raw: uint32(count)}
	return wire.AppendFrame(nil, h, binary.LittleEndian.AppendUint64(nil, uint64(source)))
}

func done(n int) []byte {
	return wire.AppendFrame(nil, wire.Header{Kind: wire.Done, Stream: 1, Index: uint64(n)}, nil)
}

func TestGet_alias(t *testing.T) {
	c := answering(t, chunk(0, "abcd"), chunk(1, "efgh"), alias(2, 2, 0), done(4))
	a, err := c.Get(context.Background(), "a", GetOptions{})
	if err != nil || !bytes.Equal(a.Data, []byte("abcdefghabcdefgh")) {
		t.Fatalf("%+v, %v", a, err)
	}
	for what, frames := range map[string][][]byte{
		"itself":                      {chunk(0, "abcd"), alias(1, 1, 1)},
		"a cell behind it":            {chunk(3, "abcd"), alias(1, 1, 3)},
		"a cell that did not come":    {chunk(1, "abcd"), alias(2, 1, 0)},
		"so many that one is missing": {chunk(0, "abcd"), alias(2, 2, 0)},
		"a cell that came":            {chunk(0, "abcd"), chunk(1, "efgh"), alias(1, 1, 0)},
		"behind the last":             {chunk(0, "abcd"), alias(1, 4, 0)},
		"no end":                      {chunk(0, "abcd"), alias(1, 2, 0), done(3)},
	} {
		if _, err := answering(t, frames...).Get(context.Background(), "a", GetOptions{}); wire.CodeOf(err) != wire.CodeProtocol {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A sink that cannot repeat has not asked for it.
	c = answering(t, chunk(0, "abcd"), alias(1, 3, 0), done(4))
	if _, err := c.GetTo(context.Background(), "a", &NPYWriter{W: io.Discard}, GetOptions{}); wire.CodeOf(err) != wire.CodeProtocol {
		t.Errorf("to a stream: %v", err)
	}
}
