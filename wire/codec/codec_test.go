package codec

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
)

// kinds are data of different nature; each gives n bytes.
var kinds = []struct {
	name string
	make func(n int) []byte
}{
	{"smooth", func(n int) []byte {
		b := make([]byte, 0, n+4)
		for i := 0; len(b) < n; i++ {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(math.Sin(float64(i)/500))))
		}
		return b[:n]
	}},
	{"counter", func(n int) []byte {
		b := make([]byte, 0, n+4)
		for i := 0; len(b) < n; i++ {
			b = binary.LittleEndian.AppendUint32(b, uint32(i))
		}
		return b[:n]
	}},
	{"random", func(n int) []byte { return randomBytes(n, 7) }},
	{"zeros", func(n int) []byte { return make([]byte, n) }},
}

func TestRoundTrip(t *testing.T) {
	for _, kind := range kinds {
		for _, n := range []int{0, 1, 7, 127, 128, 1000, 70_001, 300_007} {
			raw, turn := kind.make(n), 0
			for _, name := range []Name{LZ4, Zlib, Zstd} {
				for _, level := range []int{0, 1, 2, 4, 5, 6, 9} {
					for _, size := range []int{0, 1, 3, 4, 16, 17, 255, 300} {
						if turn++; n > 1000 && turn%11 != 0 || n > 100_000 && turn%33 != 0 {
							continue
						}
						p := Params{Name: name, Level: level, TypeSize: size, Shuffle: Shuffle((n + turn) % 4)}
						checkRoundTrip(t, kind.name, raw, p)
					}
				}
			}
		}
	}
}

func checkRoundTrip(t *testing.T, kind string, raw []byte, p Params) {
	t.Helper()
	const prefix = "before"
	out, err := AppendEncode([]byte(prefix), raw, p)
	if err != nil {
		t.Fatalf("%s, %d bytes, %+v: %v", kind, len(raw), p, err)
	}
	enc := out[len(prefix):]
	if string(out[:len(prefix)]) != prefix || len(enc) > MaxEncodedLen(len(raw)) {
		t.Fatalf("%s, %d bytes, %+v: %d encoded bytes behind %q", kind, len(raw), p, len(enc), out[:len(prefix)])
	}
	in, err := Parse(enc)
	if err != nil || in.Len != len(raw) || in.Encoded != len(enc) || in.Name != p.Name {
		t.Fatalf("%s, %d bytes, %+v: parse gives %+v, %v", kind, len(raw), p, in, err)
	}
	got := bytes.Repeat([]byte{0xee}, len(raw)+32)
	if err := Decode(got[:len(raw):len(raw)+32], enc); err != nil {
		t.Fatalf("%s, %d bytes, %+v: %v", kind, len(raw), p, err)
	}
	if !bytes.Equal(got[:len(raw)], raw) {
		t.Fatalf("%s, %d bytes, %+v: decoded bytes differ", kind, len(raw), p)
	}
	if !bytes.Equal(got[len(raw):], bytes.Repeat([]byte{0xee}, 32)) {
		t.Fatalf("%s, %d bytes, %+v: decoding wrote behind dst", kind, len(raw), p)
	}
}

func TestAppendEncode_none(t *testing.T) {
	got, err := AppendEncode([]byte("a"), []byte("bc"), Params{})
	if err != nil || string(got) != "abc" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestAppendEncode_incompressible(t *testing.T) {
	raw := randomBytes(200_000, 3)
	for _, name := range []Name{LZ4, Zlib, Zstd} {
		enc, err := AppendEncode(nil, raw, Default(name, 4))
		if err != nil {
			t.Fatal(err)
		}
		in, err := Parse(enc)
		if err != nil || !in.Copied || len(enc) != MaxEncodedLen(len(raw)) {
			t.Errorf("%v: %+v, %d bytes, %v; want a plain copy", name, in, len(enc), err)
		}
	}
}

func TestParams(t *testing.T) {
	bad := []Params{
		{Name: Auto}, {Name: BloscLZ, Level: 1}, {Name: Snappy, Level: 1}, {Name: 99},
		{Name: LZ4, Level: -1}, {Name: LZ4, Level: 10}, {Name: LZ4, Shuffle: 9},
		{Name: LZ4, TypeSize: -1}, {Name: LZ4, BlockSize: -1},
	}
	for _, p := range bad {
		if out, err := AppendEncode([]byte("x"), make([]byte, 10), p); !errors.Is(err, ErrParams) || string(out) != "x" {
			t.Errorf("%+v: got %q, %v; want ErrParams and dst untouched", p, out, err)
		}
	}
	for _, s := range []string{"", "LZ4", "blosclz", "gzip", "snappy"} {
		if _, err := ParseName(s); !errors.Is(err, ErrParams) {
			t.Errorf("ParseName(%q): %v, want ErrParams", s, err)
		}
	}
	for _, n := range []Name{Auto, None, LZ4, Zlib, Zstd} {
		if got, err := ParseName(n.String()); got != n || err != nil {
			t.Errorf("ParseName(%q) = %v, %v", n, got, err)
		}
	}
	for _, s := range []Shuffle{ShuffleAuto, ShuffleNone, ShuffleByte, ShuffleBit} {
		if got, err := ParseShuffle(s.String()); got != s || err != nil {
			t.Errorf("ParseShuffle(%q) = %v, %v", s, got, err)
		}
	}
	if _, err := ParseShuffle("on"); !errors.Is(err, ErrParams) {
		t.Errorf("ParseShuffle: %v, want ErrParams", err)
	}
}

// patched returns a valid lz4 container of 70,000 bytes with bytes overwritten.
func patched(t testing.TB, at int, with ...byte) []byte {
	t.Helper()
	enc, err := AppendEncode(nil, kinds[0].make(70_000), Params{Name: LZ4, Level: 5, TypeSize: 4, BlockSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	copy(enc[at:], with)
	return enc
}

func TestDecode_refuses(t *testing.T) {
	valid := patched(t, 0)
	first := int(le32(valid[HeaderLen:]))
	cases := []struct {
		name string
		src  []byte
		want error
	}{
		{"empty", nil, ErrCorrupt},
		{"header only", valid[:HeaderLen], ErrCorrupt},
		{"truncated", valid[:len(valid)-1], ErrCorrupt},
		{"byte too many", append(bytes.Clone(valid), 0), ErrCorrupt},
		{"version", patched(t, 0, 3), ErrUnsupported},
		{"stream version", patched(t, 1, 2), ErrUnsupported},
		{"reserved flag", patched(t, 2, flagReserved), ErrUnsupported},
		{"stream format", patched(t, 2, 7<<formatShift), ErrUnsupported},
		{"snappy", patched(t, 2, formatSnappy<<formatShift), ErrUnsupported},
		{"plain copy of other size", patched(t, 2, valid[2]|flagCopy), ErrCorrupt},
		{"typesize 0", patched(t, 3, 0), ErrCorrupt},
		{"other length", patched(t, 4, 0x71), ErrCorrupt},
		{"length over limit", patched(t, 4, 0xff, 0xff, 0xff, 0xff), ErrCorrupt},
		{"block size 0", patched(t, 8, 0, 0, 0, 0), ErrCorrupt},
		{"block size 1", patched(t, 8, 1, 0, 0, 0), ErrCorrupt},
		{"block size over length", patched(t, 8, 0xff, 0xff, 0xff, 0), ErrCorrupt},
		{"block in header", patched(t, HeaderLen, 0, 0, 0, 0), ErrCorrupt},
		{"block behind end", patched(t, HeaderLen, 0xff, 0xff, 0xff, 0x7f), ErrCorrupt},
		{"block at negative offset", patched(t, HeaderLen, 0xff, 0xff, 0xff, 0xff), ErrCorrupt},
		{"stream behind end", patched(t, first, 0xff, 0xff, 0xff, 0x7f), ErrCorrupt},
		{"stream of negative size", patched(t, first, 0xff, 0xff, 0xff, 0xff), ErrCorrupt},
		{"stream of size 0", patched(t, first, 0, 0, 0, 0), ErrCorrupt},
		{"lz4 read as zlib", patched(t, 2, formatZlib<<formatShift), ErrCorrupt},
		{"lz4 read as zstd", patched(t, 2, formatZstd<<formatShift), ErrCorrupt},
	}
	for _, c := range cases {
		if err := Decode(make([]byte, 70_000), c.src); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	for _, n := range []int{0, 69_999, 70_001} {
		if err := Decode(make([]byte, n), valid); !errors.Is(err, ErrCorrupt) {
			t.Errorf("into %d bytes: %v, want ErrCorrupt", n, err)
		}
	}
}

// TestDecode_damaged cuts containers everywhere and flips every bit of their
// first bytes and some of the rest: no panic and no write outside dst.
func TestDecode_damaged(t *testing.T) {
	raw := kinds[0].make(3000)
	for _, name := range []Name{LZ4, Zlib, Zstd} {
		for _, shuf := range []Shuffle{ShuffleNone, ShuffleByte, ShuffleBit} {
			enc, err := AppendEncode(nil, raw, Params{Name: name, Level: 5, TypeSize: 4, Shuffle: shuf, BlockSize: 256})
			if err != nil {
				t.Fatal(err)
			}
			for cut := range enc {
				short := bytes.Clone(enc[:cut])
				if err := Decode(make([]byte, len(raw)), short); err == nil {
					t.Fatalf("%v %v: cut to %d of %d bytes decodes", name, shuf, cut, len(enc))
				}
				if cut > HeaderLen { // with a header that agrees
					putLE32(short[12:], cut)
					decodeGuarded(t, short, len(raw))
				}
			}
			for at := range enc {
				for bit := range 8 {
					if at > 64 && (at+bit)%17 != 0 {
						continue
					}
					flipped := bytes.Clone(enc)
					flipped[at] ^= 1 << bit
					decodeGuarded(t, flipped, len(raw))
				}
			}
		}
	}
}

// decodeGuarded decodes src into n bytes between guards and returns the error,
// which is one of the package's.
func decodeGuarded(t *testing.T, src []byte, n int) error {
	t.Helper()
	room := bytes.Repeat([]byte{0xa5}, n+2*slack)
	err := Decode(room[slack:slack+n], src)
	if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
		t.Fatalf("error is neither ErrCorrupt nor ErrUnsupported: %v", err)
	}
	for i := range slack {
		if room[i] != 0xa5 || room[slack+n+i] != 0xa5 {
			t.Fatalf("wrote outside dst of %d bytes", n)
		}
	}
	return err
}

// container makes one block of n decoded bytes from a stream.
func container(n int, format byte, stream []byte) []byte {
	c := make([]byte, HeaderLen+8, HeaderLen+8+len(stream))
	c[0], c[1], c[2], c[3] = formatVersion, streamVersion, format<<formatShift|flagNoSplit, 1
	putLE32(c[4:], n)
	putLE32(c[8:], n)
	putLE32(c[12:], HeaderLen+8+len(stream))
	putLE32(c[16:], HeaderLen+4)
	putLE32(c[20:], len(stream))
	return append(c, stream...)
}

// TestDecode_bombs decodes streams that unpack to far more than they may.
func TestDecode_bombs(t *testing.T) {
	const n, bomb = 1000, 16 << 20
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(make([]byte, bomb))
	w.Close()
	var e zstdEncoder
	frame := make([]byte, 1<<20)
	frame = frame[:e.compress(frame, make([]byte, bomb), 1, 1)]
	over := make([]byte, 1000)
	over = over[:e.compress(over, make([]byte, n+40), 1, 1)]
	lz := append([]byte{0x1f, 0, 1, 0}, bytes.Repeat([]byte{255}, bomb/255)...)
	for _, c := range []struct {
		name   string
		format byte
		stream []byte
	}{
		{"zlib", formatZlib, z.Bytes()}, {"zstd", formatZstd, frame}, {"lz4", formatLZ4, lz},
		{"zstd, 40 bytes too long", formatZstd, over},
		{"blosclz", formatBloscLZ, append([]byte{0, 0, 0xe0}, append(bytes.Repeat([]byte{255}, bomb/255), 0, 0)...)},
		{"zstd lying about its size", formatZstd, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0}, frame[9:]...)},
	} {
		src := container(n, c.format, c.stream)
		Decode(make([]byte, n), src) // fills the pool
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := decodeGuarded(t, src, n)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s bomb decodes", c.name)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
			t.Errorf("%s bomb: %d bytes allocated for a chunk of %d", c.name, got, n)
		}
	}
}

func TestDecodeBloscLZ(t *testing.T) {
	run := func(n int, format ...byte) []byte { return append(format, make([]byte, n)...) }
	for _, c := range []struct {
		name string
		src  []byte
		want string // "" means an error
	}{
		{"literals", []byte{2, 'a', 'b', 'c'}, "abc"},
		{"first control byte has no match", []byte{0xe0 | 2, 'a', 'b', 'c'}, "abc"},
		{"match", []byte{2, 'a', 'b', 'c', 1 << 5, 2, 0, 'd'}, "abcabcd"},
		{"overlap", []byte{0, 'a', 7 << 5, 1, 0, 0, 'd'}, "aaaaaaaaaaad"},
		{"match at the end", []byte{1, 'a', 'b', 1 << 5, 1}, "ababa"},
		{"empty", nil, ""},
		{"literals cut", []byte{2, 'a', 'b'}, ""},
		{"match cut", []byte{0, 'a', 1 << 5}, ""},
		{"match length cut", []byte{0, 'a', 7 << 5, 255}, ""},
		{"before the start", []byte{0, 'a', 1 << 5, 1, 0, 'b'}, ""},
		{"far match cut", run(0, 0, 'a', 0xff, 0, 255, 1), ""},
		{"far match before the start", run(0, 0, 'a', 0xff, 0, 255, 0, 0, 0, 'b'), ""},
	} {
		dst := make([]byte, max(len(c.want), 64))
		n, err := decodeBloscLZ(dst, c.src)
		if (err != nil) != (c.want == "") || err == nil && string(dst[:n]) != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, dst[:n], err, c.want)
		}
	}
}

// TestConcurrent uses the pooled functions from many goroutines at once.
func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			raw := kinds[g%len(kinds)].make(50_000 + g)
			for i := range 20 {
				p := Default([]Name{LZ4, Zlib, Zstd}[(g+i)%3], 4)
				enc, err := AppendEncode(nil, raw, p)
				if err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, len(raw))
				if err := Decode(got, enc); err != nil || !bytes.Equal(got, raw) {
					t.Errorf("%v: decoding gives other bytes, %v", p.Name, err)
				}
			}
		})
	}
	wg.Wait()
}

func ExampleAppendEncode() {
	raw := make([]byte, 1<<20)
	for i := range raw[:1<<18] {
		binary.LittleEndian.PutUint32(raw[4*i:], uint32(i))
	}
	enc, err := AppendEncode(nil, raw, Default(LZ4, 4))
	if err != nil {
		fmt.Println(err)
		return
	}
	back := make([]byte, len(raw))
	fmt.Println(len(enc) < len(raw)/50, Decode(back, enc), bytes.Equal(back, raw))
	// Output: true <nil> true
}
