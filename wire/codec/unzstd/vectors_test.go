package unzstd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"testing"
)

// vector is a line of testdata/libzstd.txt and its frame.
type vector struct {
	name           string
	length, size   int
	dictionarySize int // bytes of the id of a dictionary that the frame needs
	crc            uint32
	frame          []byte
}

// readVectors reads what interop/zstd_vectors.py wrote.
func readVectors(t testing.TB) []vector {
	t.Helper()
	index, err := os.Open("testdata/libzstd.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	body, err := os.ReadFile("testdata/libzstd.bin")
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	for lines := bufio.NewScanner(index); lines.Scan(); {
		var v vector
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %x %d %d", &v.name, &v.length, &v.crc, &v.size, &v.dictionarySize); err != nil {
			t.Fatalf("line %d: %v", len(out)+1, err)
		}
		v.frame, body = body[:v.size:v.size], body[v.size:]
		out = append(out, v)
	}
	if len(out) < 300 || len(body) != 0 {
		t.Fatalf("%d vectors, %d bytes left over", len(out), len(body))
	}
	return out
}

// TestVectors decodes what libzstd wrote, by every path, with and without room
// behind, and refuses every other size.
func TestVectors(t *testing.T) {
	vectors := readVectors(t)
	eachPath(t, func(t *testing.T) {
		var d Decoder
		for _, v := range vectors {
			for i, room := range []int{0, 1000, 1, 31, Slack} {
				if i > 1 && v.length > 20_000 {
					break
				}
				got := make([]byte, v.length+room)
				err := d.Decode(got[:v.length], v.frame)
				if v.dictionarySize > 0 {
					if !errors.Is(err, ErrDictionary) {
						t.Fatalf("%s: %v, want ErrDictionary", v.name, err)
					}
					break
				}
				if err != nil {
					t.Fatalf("%s: %v", v.name, err)
				}
				if crc := crc32.ChecksumIEEE(got[:v.length]); crc != v.crc {
					t.Fatalf("%s, room for %d more: CRC-32 of decoded bytes %08x, want %08x", v.name, room, crc, v.crc)
				}
				if behind := got[v.length:]; room > Slack && bytes.Count(behind[Slack:], []byte{0}) != room-Slack {
					t.Fatalf("%s: wrote more than %d bytes behind the end", v.name, Slack)
				}
			}
			for _, n := range []int{v.length - 1, v.length + 1, 2 * v.length, 0} {
				if n == v.length || n < 0 || v.length > 20_000 {
					continue
				}
				if err := d.Decode(make([]byte, n), v.frame); !errors.Is(err, ErrCorrupt) && v.dictionarySize == 0 {
					t.Fatalf("%s, %d bytes: into %d: %v, want ErrCorrupt", v.name, v.length, n, err)
				}
			}
		}
	})
}

// TestVectors_cover counts what of the format the vectors have, so that none
// of it is left out of the other tests unnoticed.
func TestVectors_cover(t *testing.T) {
	seen := map[string]int{}
	for _, v := range readVectors(t) {
		if v.dictionarySize > 0 {
			seen["dictionary"]++
			continue
		}
		var d Decoder
		if v.name == "two-frames" || v.name == "skippable-frames" {
			continue
		}
		at, err := d.frameHead(v.frame)
		if err != nil {
			t.Fatal(err)
		}
		if d.checksum {
			seen["checksum"]++
		}
		if d.content == unknown {
			seen["unknown size"]++
		}
		for last := false; !last; {
			head := int(v.frame[at]) | int(v.frame[at+1])<<8 | int(v.frame[at+2])<<16
			at += 3
			last = head&1 != 0
			n := head >> 3
			switch head >> 1 & 3 {
			case blockRaw:
				seen["raw block"]++
			case blockRLE:
				seen["single byte block"]++
				n = 1
			case blockCompressed:
				countBlock(t, seen, v.frame[at:at+n])
			}
			at += n
		}
	}
	for _, want := range []string{
		"checksum", "unknown size", "dictionary", "raw block", "single byte block",
		"literals 0", "literals 1", "literals 2", "literals 3", "one stream", "no sequences", "many sequences",
		"literal length mode 0", "literal length mode 1", "literal length mode 2", "literal length mode 3",
		"offset mode 0", "offset mode 1", "offset mode 2", "offset mode 3",
		"match length mode 0", "match length mode 1", "match length mode 2", "match length mode 3",
	} {
		if seen[want] < 2 {
			t.Errorf("only %d times: %s", seen[want], want)
		}
	}
	t.Log(seen)
}

func countBlock(t *testing.T, seen map[string]int, block []byte) {
	h, err := readLiteralsHead(block)
	if err != nil {
		t.Fatal(err)
	}
	seen[fmt.Sprint("literals ", h.kind)]++
	if h.streams == 1 && h.kind >= literalsCoded {
		seen["one stream"]++
	}
	rest := block[h.head+h.size:]
	n, size, err := readSequencesHead(rest)
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		seen["no sequences"]++
		return
	}
	if n >= 128 {
		seen["many sequences"]++
	}
	for i, c := range []code{literalCode, offsetCode, matchCode} {
		seen[fmt.Sprint(c.name, " mode ", rest[size]>>(6-2*i)&3)]++
	}
}
