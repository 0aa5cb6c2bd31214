package codec

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"testing"
)

// vectorCase is a line of testdata/cblosc.txt and its container.
type vectorCase struct {
	codec, shuffle                              string
	level, typeSize, blockSize, length, encoded int
	crc                                         uint32
	container                                   []byte
}

func (v vectorCase) String() string {
	return fmt.Sprintf("%s level %d %s typesize %d blocksize %d length %d", v.codec, v.level, v.shuffle, v.typeSize, v.blockSize, v.length)
}

// readVectors reads what interop/vectors.py wrote.
func readVectors(t testing.TB) []vectorCase {
	t.Helper()
	index, err := os.Open("testdata/cblosc.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	body, err := os.ReadFile("testdata/cblosc.bin")
	if err != nil {
		t.Fatal(err)
	}
	var cases []vectorCase
	for lines := bufio.NewScanner(index); lines.Scan(); {
		var v vectorCase
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %s %d %d %d %x %d", &v.codec, &v.level, &v.shuffle, &v.typeSize, &v.blockSize, &v.length, &v.crc, &v.encoded); err != nil {
			t.Fatalf("line %d: %v", len(cases)+1, err)
		}
		v.container, body = body[:v.encoded:v.encoded], body[v.encoded:]
		cases = append(cases, v)
	}
	if len(cases) < 1000 || len(body) != 0 {
		t.Fatalf("%d cases, %d bytes left over", len(cases), len(body))
	}
	return cases
}

// TestVectors decodes what C-Blosc wrote, and encodes it again: the header
// must be C-Blosc's up to size and plain copy, and lz4 containers its bytes.
func TestVectors(t *testing.T) {
	same := 0
	for _, v := range readVectors(t) {
		raw := make([]byte, v.length)
		if err := Decode(raw, v.container); err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		if crc := crc32.ChecksumIEEE(raw); crc != v.crc {
			t.Fatalf("%v: CRC-32 of decoded bytes %08x, want %08x", v, crc, v.crc)
		}
		name, err := ParseName(v.codec)
		if err != nil || v.typeSize > MaxTypeSize {
			continue
		}
		p := Params{Name: name, Level: v.level, TypeSize: v.typeSize, BlockSize: v.blockSize}
		if p.Shuffle, err = ParseShuffle(v.shuffle); err != nil {
			t.Fatal(err)
		}
		ours, err := AppendEncode(nil, raw, p)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		if got, want := comparable12(ours), comparable12(v.container); !bytes.Equal(got, want) {
			t.Fatalf("%v: header %x, want %x", v, got, want)
		}
		if name == LZ4 {
			if !bytes.Equal(ours, v.container) {
				t.Fatalf("%v: bytes differ from C-Blosc's", v)
			}
			same++
		}
	}
	if same < 200 {
		t.Fatalf("compared the bytes of only %d lz4 containers", same)
	}
}

// comparable12 is a header up to its block size without the plain copy flag.
func comparable12(container []byte) []byte {
	h := bytes.Clone(container[:12])
	h[2] &^= flagCopy
	return h
}
