package codec

import (
	"bytes"
	"testing"
)

// fuzzLimit bounds the decoded length that a fuzzed header can ask for.
const fuzzLimit = 1 << 20

func FuzzDecode(f *testing.F) {
	for i, v := range readVectors(f) {
		if i%40 == 0 && len(v.container) < 3000 {
			f.Add(v.container)
		}
	}
	for _, name := range []Name{LZ4, Zlib, Zstd} {
		enc, err := AppendEncode(nil, kinds[0].make(1500), Params{Name: name, Level: 5, TypeSize: 4, Shuffle: ShuffleBit})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		in, err := Parse(src)
		if err != nil {
			decodeGuarded(t, src, 100)
			return
		}
		if in.Len <= fuzzLimit {
			decodeGuarded(t, src, in.Len)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	for i, kind := range kinds {
		f.Add(kind.make(700*i+3), uint8(LZ4), uint8(5), uint8(ShuffleByte), uint16(4), uint16(0))
		f.Add(kind.make(1000), uint8(Zstd), uint8(1), uint8(ShuffleBit), uint16(8), uint16(200))
		f.Add(kind.make(1001), uint8(Zlib), uint8(6), uint8(ShuffleNone), uint16(300), uint16(128))
	}
	f.Fuzz(func(t *testing.T, raw []byte, name, level, shuf uint8, typeSize, block uint16) {
		p := Params{Name: LZ4 + Name(name)%3, Level: int(level) % 10, Shuffle: Shuffle(shuf) % 4, TypeSize: int(typeSize), BlockSize: int(block)}
		enc, err := AppendEncode(nil, raw, p)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(raw))
		if err := Decode(got, enc); err != nil || !bytes.Equal(got, raw) {
			t.Fatalf("%+v: %v", p, err)
		}
	})
}
