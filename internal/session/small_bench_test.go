package session

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"ndferry/store/mem"
	"ndferry/wire"
)

// BenchmarkSmall is what a put and a get of 4 KiB cost the server beside its system calls.
func BenchmarkSmall(b *testing.B) {
	st := mem.New(mem.Config{})
	defer st.Close()
	var pool Pool
	ex := NewExecutor(b.Context(), st, &pool)
	defer ex.Close()
	ex.Share(&Owners{}, func() {})
	ses := New(Config{Software: "bench"}, ex, start)
	out := 0
	act := func() {
		for a, ok := ses.Next(); ok; a, ok = ses.Next() {
			switch a.Do {
			case Send:
				for _, s := range a.Segments {
					out += len(s)
				}
				if a.Token != 0 {
					ses.OnSent(a.Token)
				}
			case Submit:
				ses.OnDone(a.Op.ID, ex.Run(a.Op, nil))
			case Close:
				b.Fatal(a.Err)
			}
		}
	}
	deliver := func(h wire.Header, payload []byte) {
		h.Length = uint32(len(payload))
		p := ses.OnHeader(h)
		act()
		if p.Verdict != Read {
			b.Fatalf("%v: verdict %v", h.Kind, p.Verdict)
		}
		if len(payload) > 0 {
			copy(p.Memory, payload)
			crc := wire.Checksum(payload)
			ses.OnPayload(crc, crc, wire.Whole)
			act()
		}
	}
	deliver(wire.Header{Kind: wire.Hello, Flags: wire.Critical}, wire.Encode(wire.NewHello("bench", wire.MaxCredit)))
	array := `{"zarr_format":3,"node_type":"array","shape":[1024],"data_type":"float32","chunk_grid":{"name":"regular","configuration":{"chunk_shape":[1024]}},` +
		`"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":0.0,"codecs":[{"name":"bytes","configuration":{"endian":"little"}}],` +
		`"dimension_names":["transfer_0"],"attributes":{}}`
	put := wire.PutMessage{Name: "bench/transfer", Array: jsontext.Value(array), NumPy: jsontext.Value(`"<f4"`), CodecWhy: "the server is on this machine, where no codec is faster than copying"}
	cell := make([]byte, 4096)
	get := wire.Encode(wire.GetMessage{Name: put.Name, Takes: []string{wire.FeatureAlias, wire.FeatureFill}})
	stream := uint32(0)
	run := func(b *testing.B, do func()) {
		b.ReportAllocs()
		for b.Loop() {
			do()
		}
	}
	onePut := func() {
		stream++
		put.ID[0], put.ID[1], put.ID[2], put.ID[3] = 1, byte(stream), byte(stream>>8), byte(stream>>16)
		deliver(wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: stream}, wire.Encode(put))
		deliver(wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: stream, Raw: 4096}, cell)
		deliver(wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: stream, Index: 1}, nil)
	}
	b.Run("put", func(b *testing.B) { run(b, onePut) })
	b.Run("get", func(b *testing.B) {
		onePut()
		run(b, func() {
			stream++
			deliver(wire.Header{Kind: wire.Get, Flags: wire.Critical, Stream: stream}, get)
		})
	})
	b.Run("encode", func(b *testing.B) { run(b, func() { wire.Encode(put) }) })
}
