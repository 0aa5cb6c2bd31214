package unzstd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// FuzzDecode gives any bytes as frames to every path, between guard pages. The
// paths must agree, and with the library where it takes the bytes too.
func FuzzDecode(f *testing.F) {
	for i, v := range readVectors(f) {
		if i%3 == 0 && v.size < 3000 && v.length < 20_000 {
			f.Add(v.frame, uint32(v.length), uint8(i))
		}
	}
	lib, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(1<<31))
	if err != nil {
		f.Fatal(err)
	}
	const most = 256 << 10
	src, dst := newGuarded(f, most), newGuarded(f, most)
	f.Fuzz(func(t *testing.T, frame []byte, length uint32, room uint8) {
		n := int(length % (most - Slack))
		slack := int(room) % Slack
		if len(frame) > most {
			return
		}
		in := src.high(len(frame))
		copy(in, frame)
		out := dst.high(n + slack)[:n]
		var results [][]byte
		eachPath(t, func(t *testing.T) {
			var d Decoder
			err := d.Decode(out, in)
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDictionary) {
				t.Fatalf("%v", err)
			}
			var got []byte
			if err == nil {
				got = append([]byte{}, out...)
			}
			results = append(results, got)
		})
		for _, r := range results[1:] {
			if (r == nil) != (results[0] == nil) || !bytes.Equal(r, results[0]) {
				t.Fatal("the paths differ")
			}
		}
		want, err := lib.DecodeAll(frame, make([]byte, 0, n))
		if err == nil && len(want) == n && results[0] != nil && !bytes.Equal(want, results[0]) {
			t.Fatal("the library decodes other bytes")
		}
		if err == nil && len(want) == n && results[0] == nil {
			t.Fatal("the library takes it")
		}
		if err != nil && results[0] != nil && !hasWindow(frame) {
			t.Fatalf("the library refuses it: %v", err)
		}
	})
}

// hasWindow reports whether a frame may have a window shorter than itself,
// which the library holds distances to; libzstd and this package do not.
func hasWindow(b []byte) bool {
	for i := range b[:max(0, len(b)-4)] {
		if binary.LittleEndian.Uint32(b[i:]) == magic && b[i+4]&0x20 == 0 {
			return true
		}
	}
	return false
}
