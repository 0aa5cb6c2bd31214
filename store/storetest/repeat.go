package storetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/crc32"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire/codec"
)

// repeatSample is an array of ten cells, the last of them cut at the edge: two that differ, three repeats of both, one of the fill value and
// the last. packed makes its cells containers.
func (s *suite) repeatSample(name string, seed uint64, digest store.DigestKind, packed bool) (x *Sample, fill store.Cell) {
	s.Helper()
	x = NewSample(s, name, "<f4", array.Shape{95, 30}, array.Shape{10, 30}, nil, digest, seed)
	x.Sparse = true
	x.Meta.Fill = []byte("1.5")
	grid, err := x.Meta.Grid()
	if err != nil {
		s.Fatal(err)
	}
	item, err := x.Meta.FillBytes()
	if err != nil {
		s.Fatal(err)
	}
	for i := 2; i < 8; i++ {
		copy(x.Whole[i*1200:][:1200], x.Whole[i%2*1200:])
	}
	one := make([]byte, 1200)
	grid.Fill(one, 8, item)
	copy(x.Whole[8*1200:], one)
	x.Cells, x.Info = nil, nil
	x.cut(s)
	fill = store.Cell{Index: 8, Source: store.Fill}
	if digest == store.DigestSHA256 {
		fill.Leaf = sha256.Sum256(one)
	}
	if packed {
		x.Meta.Codecs = []array.Codec{array.Blosc{CName: "zstd", CLevel: 5, Shuffle: "shuffle", TypeSize: 4}.Codec()}
		for i, raw := range x.Cells {
			enc, err := codec.AppendEncode(nil, raw, codec.Default(codec.Zstd, 4))
			if err != nil {
				s.Fatal(err)
			}
			x.Cells[i], x.Info[i].CRC = enc, crc32.Checksum(enc, castagnoli)
		}
	}
	for i := 2; i < 8; i++ {
		x.Info[i].Source, x.Info[i].CRC = i%2, x.Info[i%2].CRC
	}
	return x, fill
}

// repeats stores cells that repeat others or are the fill value, with and without containers, a digest and an interruption.
func (s *suite) repeats() {
	for i, packed := range []bool{false, true, false, true} {
		digest := []store.DigestKind{"", store.DigestSHA256}[i/2]
		name := fmt.Sprintf("repeats/%d", i)
		x, fill := s.repeatSample(name, uint64(i+1), digest, packed)
		x.Spec.Resume = s.options.Resume
		var leaves [][32]byte
		if digest == store.DigestSHA256 {
			leaves = [][32]byte{fill.Leaf}
		}
		u := s.begin(x.Spec)
		s.write(u, x, 1, 0)
		s.badRepeats(u)
		s.ok("Repeat", u.Repeat(s.Context(), store.Repeat{First: 2, Count: 6, Source: 0}, nil))
		s.want("a cell twice", u.Repeat(s.Context(), store.Repeat{First: 7, Count: 1, Source: 0}, nil), store.ErrInvalid)
		if s.options.Resume {
			s.ok("Sync", u.Sync(s.Context()))
			s.ok("Close", u.Close())
			u = s.begin(x.Spec)
			s.wantDurable(u, "[{0 8}]")
			if c, ok := u.Recorded(5); !ok || c.Source != 1 || c.Leaf != x.Info[5].Leaf {
				s.Errorf("Recorded(5) of a reopened upload: %+v, %v", c, ok)
			}
		}
		s.ok("Repeat", u.Repeat(s.Context(), store.Repeat{First: 8, Count: 1, Source: store.Fill}, leaves))
		s.write(u, x, 9)
		r, err := u.Commit(s.Context(), x.Root)
		s.ok("Commit", err)
		if want := len(x.Cells[0]) + len(x.Cells[1]) + len(x.Cells[9]); r.StoredBytes != int64(want) || r.Cells != 10 || r.Bytes != 95*30*4 {
			s.Errorf("receipt %+v, %d bytes are stored", r, want)
		}
		a, err := s.s.Open(s.Context(), name)
		s.ok("Open", err)
		s.repeatsAreRead(a, x, fill)
		s.wantVerified(a)
		s.ok("Close", a.Close())
	}
	plain := s.sample("repeats/plain", 9)
	u := s.begin(plain.Spec)
	s.write(u, plain, 0)
	s.want("a repeat in an array that is not sparse", u.Repeat(s.Context(), store.Repeat{First: 1, Count: 1, Source: 0}, nil), store.ErrInvalid)
	s.ok("Discard", u.Discard())
}

// badRepeats tries what cannot be, of an upload that has cells 0 and 1 of ten; the upload stays as it is.
func (s *suite) badRepeats(u store.Upload) {
	for what, r := range map[string]store.Repeat{
		"a source that was not written": {First: 4, Count: 1, Source: 3},
		"itself":                        {First: 4, Count: 1, Source: 4},
		"a source behind it":            {First: 4, Count: 1, Source: 5},
		"no such source":                {First: 4, Count: 1, Source: -2},
		"no cells":                      {First: 4, Count: 0, Source: 0},
		"cells before the first":        {First: -1, Count: 2, Source: store.Fill},
		"cells behind the last":         {First: 8, Count: 3, Source: 0},
		"so many that they overflow":    {First: 8, Count: int(^uint(0) >> 1), Source: 0},
		"a written cell":                {First: 1, Count: 1, Source: 0},
	} {
		s.want(what, u.Repeat(s.Context(), r, nil), store.ErrInvalid)
	}
}

// repeatsAreRead compares every cell with what was recorded, and reads those that have bytes.
func (s *suite) repeatsAreRead(a store.Array, x *Sample, fill store.Cell) {
	if !a.Info().Sparse || string(a.Info().Meta.Fill) != "1.5" {
		s.Errorf("Info: sparse %v, fill value %s", a.Info().Sparse, a.Info().Meta.Fill)
	}
	for i, want := range x.Cells {
		c, n, err := a.Cell(i)
		s.ok("Cell", err)
		if i == 8 {
			if c != fill || n != 0 {
				s.Errorf("the cell of the fill value is recorded as %+v of %d bytes, want %+v", c, n, fill)
			}
			continue
		}
		if i >= 2 && i < 8 {
			want = x.Cells[i%2]
		}
		if c != x.Info[i] || n != len(want) {
			s.Errorf("cell %d is recorded as %+v of %d bytes, want %+v of %d", i, c, n, x.Info[i], len(want))
			continue
		}
		got := make([]byte, n)
		if err := a.Read(s.Context(), i, got); err != nil || !bytes.Equal(got, want) {
			s.Errorf("cell %d has other bytes, %v", i, err)
		}
	}
}
