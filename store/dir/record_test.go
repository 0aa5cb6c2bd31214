package dir

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/store"
)

func testSpec(t testing.TB) store.Spec {
	t.Helper()
	d, err := array.ParseDType("<f4")
	if err != nil {
		t.Fatal(err)
	}
	spec := store.Spec{
		ID: store.ID{1, 2, 3}, Name: "a/b", Digest: store.DigestSHA256, Attributes: []byte(`{"a":"b"}`),
		Meta: array.Meta{DType: d, Shape: array.Shape{5, 4}, Cell: array.Shape{2, 4}},
	}
	if err := store.CheckSpec(&spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// testJournal returns a journal of HEADER and three CELLS, and where its records begin.
func testJournal(t testing.TB) (text []byte, begins []int) {
	t.Helper()
	spec := testSpec(t)
	header, err := encodeHeader(&spec, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	lay, err := newLayout(&spec)
	if err != nil {
		t.Fatal(err)
	}
	table := lay.newTable(spec.Digest)
	text = appendPreamble(nil, sidecarMagic)
	add := func(kind recordType, body []byte) {
		begins = append(begins, len(text))
		text = appendRecord(text, kind, body)
	}
	add(recordHeader, header)
	for i := range 3 {
		table.set(entry{cell: store.Cell{Index: i, Source: i, CRC: uint32(i) * 77, Leaf: [32]byte{byte(i)}}, offset: int64(i * 32), length: 32})
		add(recordCells, table.appendEntry(nil, i))
	}
	return text, append(begins, len(text))
}

// TestJournalTorn cuts a journal at every byte, and overwrites every tail of it with zeros and with noise: what was whole before stays.
func TestJournalTorn(t *testing.T) {
	text, begins := testJournal(t)
	for n := begins[1]; n <= len(text); n++ {
		whole := 0 // CELLS records before n
		for whole+2 < len(begins) && begins[whole+2] <= n {
			whole++
		}
		tails := map[string][]byte{"cut": text[:n], "zeros": append(bytes.Clone(text[:n]), make([]byte, len(text)-n)...)}
		for name, torn := range tails {
			side, err := readJournal(bytes.NewReader(torn), "journal", int64(len(torn)))
			if err != nil {
				t.Fatalf("%s at %d: %v", name, n, err)
			}
			if side.table.have < whole || side.end < int64(begins[whole+1]) {
				t.Errorf("%s at %d: %d cells to offset %d, %d were whole", name, n, side.table.have, side.end, whole)
			}
			for i := range side.table.have {
				if c := side.table.get(i).cell; c.CRC != uint32(i)*77 || c.Leaf != [32]byte{byte(i)} {
					t.Errorf("%s at %d: cell %+v", name, n, c)
				}
			}
		}
	}
	// Damage with good records behind it is no torn tail.
	for at := begins[1]; at < begins[2]; at++ {
		damaged := bytes.Clone(text)
		damaged[at] ^= 0x10
		_, err := readJournal(bytes.NewReader(damaged), "journal", int64(len(damaged)))
		if at >= begins[1]+4 && !errors.Is(err, store.ErrIntegrity) {
			t.Errorf("damage at %d: error %v", at, err)
		}
	}
}

func TestRecordErrorsNamePlace(t *testing.T) {
	text, begins := testJournal(t)
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		want   string
	}{
		"magic":   {func(b []byte) []byte { b[0] = 'x'; return b }, "wrong magic at offset 0"},
		"version": {func(b []byte) []byte { b[8] = 9; return b }, "CRC of the preamble at offset 0"},
		"type":    {func(b []byte) []byte { return appendRecord(b, 99, nil) }, "record of unknown type 99 at offset"},
		"header": {func(b []byte) []byte {
			return appendRecord(appendPreamble(nil, sidecarMagic), recordHeader, []byte(`{"id":"zz"}`))
		},
			"HEADER: the id is not 32 hex digits at offset 16"},
		"JSON": {func(b []byte) []byte {
			return appendRecord(appendPreamble(nil, sidecarMagic), recordHeader, []byte(`{"id":"1","id":"1"}`))
		}, "duplicate"},
		"cell": {func(b []byte) []byte { return appendRecord(b, recordCells, bytes.Repeat([]byte{0xff}, 64)) }, "names cell"},
		"size": {func(b []byte) []byte { return appendRecord(b, recordCells, make([]byte, 63)) }, "CELLS record of 63 bytes"},
	} {
		b := c.damage(bytes.Clone(text))
		_, err := readJournal(bytes.NewReader(b), "journal", int64(len(b)))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "journal") {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	_ = begins
}

// TestTable compares the table with a map.
func TestTable(t *testing.T) {
	for _, fixed := range []int{0, 8} {
		random := rand.New(rand.NewPCG(1, uint64(fixed)))
		const n = 3*pageCells + 100
		table := newTable(n, fixed, true)
		durable := map[int]bool{}
		want := map[int]entry{}
		for range 20 {
			first := random.IntN(n)
			for i := first; i < min(n, first+random.IntN(300)); i++ {
				e := entry{cell: store.Cell{Index: i, Source: i, CRC: random.Uint32(), Leaf: [32]byte{byte(i)}}, offset: random.Int64N(1 << 40), length: 1 + random.IntN(100)}
				if fixed > 0 {
					e.offset, e.length = int64(i*fixed), fixed
				}
				table.set(e)
				if _, again := want[i]; !again {
					durable[i] = false
				}
				want[i] = e
			}
			if random.IntN(2) == 0 {
				for i := range table.pending() {
					if durable[i] {
						t.Fatalf("cell %d is pending and durable", i)
					}
					durable[i] = true
				}
				table.settle()
			}
		}
		if table.have != len(want) {
			t.Errorf("have %d, want %d", table.have, len(want))
		}
		for i := range n {
			e, ok := want[i]
			if table.has(i) != ok || ok && table.get(i) != e {
				t.Fatalf("cell %d: %v, want %v", i, table.has(i), ok)
			}
		}
		count, last := 0, -2
		for _, r := range table.durable() {
			if r.First <= last || r.Count < 1 {
				t.Errorf("range %v after %d: not in order, or not joined", r, last)
			}
			for i := range r.Count {
				if !durable[r.First+i] {
					t.Errorf("cell %d is not durable", r.First+i)
				}
				count++
			}
			last = r.First + r.Count
		}
		for _, d := range durable {
			if d {
				count--
			}
		}
		if count != 0 {
			t.Errorf("%d durable cells too many", count)
		}
	}
}

func FuzzRecords(f *testing.F) {
	text, begins := testJournal(f)
	f.Add(text)
	f.Add(text[:begins[2]+3])
	f.Add(appendRecord(text, recordCommit, []byte(`{}`)))
	f.Add(appendRecord(appendPreamble(nil, receiptsMagic), recordDone, make([]byte, 24)))
	f.Fuzz(func(t *testing.T, text []byte) {
		src, size := bytes.NewReader(text), int64(len(text))
		for _, read := range []func(io.ReaderAt, string, int64) (*sidecar, error){readJournal, readCommitted, readInfo} {
			side, err := read(src, "sidecar", size)
			if err != nil {
				continue
			}
			if err := store.CheckSpec(&side.spec); err != nil {
				t.Errorf("a bad spec was accepted: %v", err)
			}
			if side.end > size {
				t.Errorf("end %d of %d bytes", side.end, size)
			}
		}
		// The log of receipts reads the same records.
		l := &receiptLog{undecided: map[store.ID]store.Receipt{}, entries: map[store.ID]logEntry{}}
		r, err := openRecords(src, receiptsFile, receiptsMagic, size)
		for err == nil {
			var kind recordType
			var body []byte
			if kind, body, _, err = r.next(); err == nil {
				_ = l.apply(kind, body)
			}
		}
	})
}
