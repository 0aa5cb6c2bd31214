package codec

import (
	"bytes"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// checkLZ4 compares a block with that of the library, which makes the bytes of
// LZ4_compress_fast, in rooms that are ample, exact and too small.
func checkLZ4(t *testing.T, e *lz4Encoder, src []byte, acceleration int) {
	t.Helper()
	c := lz4.CompressorCCompat{Acceleration: acceleration}
	want := make([]byte, len(src))
	n, err := c.CompressBlock(src, want)
	if err != nil {
		n = 0
	}
	rooms := []int{len(src)}
	if n > 0 {
		rooms = append(rooms, n+8, n, n-1, n/2)
	}
	for _, room := range rooms {
		if room > len(src) {
			continue
		}
		limited := make([]byte, room)
		wantN, err := c.CompressBlock(src, limited)
		if err != nil {
			wantN = 0
		}
		whole := bytes.Repeat([]byte{0xa5}, room+32)
		got := e.compress(whole[16:16+room:16+room], src, acceleration)
		if got != wantN || !bytes.Equal(whole[16:16+got], limited[:wantN]) {
			t.Fatalf("%d bytes, acceleration %d, room %d: %d bytes, the library makes %d, or others", len(src), acceleration, room, got, wantN)
		}
		for i := range 16 {
			if whole[i] != 0xa5 || whole[16+room+i] != 0xa5 {
				t.Fatalf("%d bytes, acceleration %d, room %d: wrote outside", len(src), acceleration, room)
			}
		}
	}
}

func TestLZ4(t *testing.T) {
	var e lz4Encoder
	for i := range 340 {
		n := i
		if i >= 300 {
			n = i * 1997 % 150_000
		}
		for k, kind := range kinds {
			src := kind.make(n)
			checkLZ4(t, &e, src, 1+(i+k)%10)
			planes := make([]byte, n)
			shuffle(planes, src, 4)
			checkLZ4(t, &e, planes, 1+(i+k)%10)
		}
	}
	for _, n := range []int{64<<10 + 10, 64<<10 + 11, 64<<10 + 12} { // where positions grow to 32 bits
		checkLZ4(t, &e, kinds[0].make(n), 1)
	}
	far := randomBytes(200_000, 5) // matches at, just over and far over the largest distance
	copy(far[65_535+100:], far[100:200])
	copy(far[65_536+300:], far[300:400])
	copy(far[150_000:], far[500:2000])
	checkLZ4(t, &e, far, 1)
}

func FuzzLZ4(f *testing.F) {
	for i, kind := range kinds {
		f.Add(kind.make(500+i), uint8(i), uint16(300))
	}
	var e lz4Encoder
	f.Fuzz(func(t *testing.T, src []byte, acceleration uint8, repeat uint16) {
		checkLZ4(t, &e, src, int(acceleration)%10+1)
		if len(src) > 0 && len(src) < 4096 {
			checkLZ4(t, &e, bytes.Repeat(src, int(repeat)%64+1), int(acceleration)%10+1)
		}
	})
}
