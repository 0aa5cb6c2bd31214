package array

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"
)

func TestShardIndex(t *testing.T) {
	// Stored order of the cells: column by column. The index is row by row.
	g, err := NewGrid(Shape{4, 5}, Shape{2, 3}, FOrder(2))
	if err != nil {
		t.Fatal(err)
	}
	spans := []CellSpan{{Offset: 0, Length: 6}, {Offset: 6, Length: 6}, {Missing: true}, {Offset: 12, Length: 6}}
	raw := AppendShardIndex([]byte{1}, g, func(i int) CellSpan { return spans[i] })[1:]
	want := "00000000000000000600000000000000" + "ffffffffffffffffffffffffffffffff" +
		"06000000000000000600000000000000" + "0c000000000000000600000000000000"
	if got := hex.EncodeToString(raw[:64]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(raw) != ShardIndexSize(4) {
		t.Errorf("%d bytes", len(raw))
	}
	got, err := ParseShardIndex(raw, g, 18)
	if err != nil || !slices.Equal(got, spans) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ParseShardIndex(raw, g, 17); !errors.Is(err, ErrShardIndex) {
		t.Errorf("a cell beyond the body: %v", err)
	}
	if _, err := ParseShardIndex(raw, g, -1); !errors.Is(err, ErrShardIndex) {
		t.Errorf("a negative body: %v", err)
	}
	for n := range raw {
		if _, err := ParseShardIndex(raw[:n], g, 18); !errors.Is(err, ErrShardIndex) {
			t.Errorf("%d bytes: %v", n, err)
		}
		bad := slices.Clone(raw)
		bad[n] ^= 1
		if _, err := ParseShardIndex(bad, g, 18); !errors.Is(err, ErrShardIndex) {
			t.Errorf("byte %d changed: %v", n, err)
		}
	}
	huge := AppendShardIndex(nil, g, func(i int) CellSpan { return CellSpan{Offset: -8, Length: 16} })
	if _, err := ParseShardIndex(huge, g, 1<<62); !errors.Is(err, ErrShardIndex) {
		t.Errorf("a span that overflows: %v", err)
	}
	for n, want := range []string{"c", "c.0", "c.0.0"} {
		if got := ShardKey(n); got != want {
			t.Errorf("key %s, want %s", got, want)
		}
	}
}
