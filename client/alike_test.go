package client

import (
	"fmt"
	"testing"
	"time"

	"ndferry/wire"
)

// TestAlike compares what is taken from a text that is like another with what reading it says, and refuses all that is not alike.
func TestAlike(t *testing.T) {
	message := func(name string, id wire.ID, created time.Time, bytes int64, why string) []byte {
		return wire.Encode(wire.ReceiptMessage{Name: name, ID: id, Bytes: bytes, StoredBytes: bytes, Cells: 1, Codec: "none", CodecWhy: why,
			Digest: wire.Digest{Kind: "crc32c"}, Durability: "memory", Created: created})
	}
	now := time.Date(2026, 11, 28, 1, 2, 3, 456_000_000, time.UTC)
	first := message("a", wire.ID{1}, now, 4096, "")
	a := newAlike(first, wire.ID{1}, "value")
	if a == nil {
		t.Fatal("nothing is kept")
	}
	for i := range 200 {
		id, created := wire.ID{byte(i), 9}, now.Add(time.Duration(i*i)*time.Microsecond*977)
		text := message("a", id, created, 4096, "")
		gotID, gotTime, ok := a.match(text)
		want, err := readReceipt(text)
		if err != nil || !ok || gotID != want.ID || gotTime != want.Created {
			t.Fatalf("%s: %v %v %v, want %v %v, error %v", text, gotID, gotTime, ok, want.ID, want.Created, err)
		}
		for at := range text { // every byte but those of id and time decides
			bad := append([]byte(nil), text...)
			bad[at] ^= 0x80
			if _, _, ok := a.match(bad); ok {
				t.Fatalf("%q is taken", bad)
			}
			if _, _, ok := a.match(text[:at]); ok {
				t.Fatalf("%q is taken", text[:at])
			}
		}
	}
	for _, other := range [][]byte{message("b", wire.ID{1}, now, 4096, ""), message("a", wire.ID{1}, now, 4097, ""), message("a", wire.ID{1}, now, 4096, "why"), nil} {
		if _, _, ok := a.match(other); ok {
			t.Errorf("%s is taken", other)
		}
	}
	id := wire.ID{1}.String()
	for _, unclear := range []string{
		`{}`, `{"id":"` + id + `"}`, `{"id":"` + id + `","created":"x","created":"x"}`, `{"created":"x","id":"` + id + `"}`,
		`{"id":"` + id + `","more":{"id":"` + id + `"},"created":"x"}`, `{"id":"` + id + `","created":"`,
	} {
		if newAlike([]byte(unclear), wire.ID{1}, 0) != nil {
			t.Errorf("%s is kept", unclear)
		}
	}
	var kept map[string]*alike[string]
	for i := range 3 * maxAlike {
		remember(&kept, fmt.Sprint(i), a)
	}
	if len(kept) != maxAlike || kept[fmt.Sprint(3*maxAlike-1)] == nil {
		t.Errorf("%d are kept, want %d and the last", len(kept), maxAlike)
	}
}
