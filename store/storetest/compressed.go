package storetest

import (
	"hash/crc32"
	"slices"
	"strings"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire/codec"
)

// compressedSample is a sample whose cells are containers of several lengths, the last of them padded.
func (s *suite) compressedSample(name string, seed uint64, digest store.DigestKind) *Sample {
	s.Helper()
	x := NewSample(s, name, "<f4", array.Shape{95, 30}, array.Shape{10, 30}, nil, digest, seed)
	x.Meta.Codecs = []array.Codec{array.Blosc{CName: "zstd", CLevel: 5, Shuffle: "shuffle", TypeSize: 4}.Codec()}
	for i, raw := range x.Cells {
		p := codec.Default([]codec.Name{codec.LZ4, codec.Zlib, codec.Zstd}[i%3], 4)
		if digest == "" {
			clear(raw[:100*i]) // cells that shrink by different amounts; a leaf stays that of the raw bytes otherwise
		}
		enc, err := codec.AppendEncode(nil, raw, p)
		if err != nil {
			s.Fatal(err)
		}
		x.Cells[i], x.Info[i].CRC = enc, crc32.Checksum(enc, castagnoli)
	}
	return x
}

// compressed stores containers in any order, with an interruption, and verifies them.
func (s *suite) compressed() {
	for i, digest := range []store.DigestKind{"", store.DigestSHA256} {
		x := s.compressedSample("packed/x", uint64(i+1), digest)
		x.Spec.Resume = s.options.Resume
		u := s.begin(x.Spec)
		s.write(u, x, 7, 1, 2)
		if s.options.Resume {
			s.ok("Sync", u.Sync(s.Context()))
			s.write(u, x, 3, 0) // not durable, so they may be lost
			s.ok("Close", u.Close())
			u = s.begin(x.Spec)
			s.wantDurable(u, "[{1 2} {7 1}]")
		}
		long := make([]byte, codec.MaxEncodedLen(10*30*4)+1)
		s.want("a container that is too long", u.Write(s.Context(), x.Info[9], long), store.ErrInvalid)
		s.write(u, x, 9, 8, 0, 3, 6, 5, 4)
		r, err := u.Commit(s.Context(), x.Root)
		s.ok("Commit", err)
		stored := int64(0)
		for _, c := range x.Cells {
			stored += int64(len(c))
		}
		if r.Codec != "zstd" || r.StoredBytes != stored || r.Bytes != 95*30*4 {
			s.Errorf("receipt %+v, %d bytes are stored", r, stored)
		}
		x.Check(s, s.s)
		a, err := s.s.Open(s.Context(), x.Name)
		s.ok("Open", err)
		s.wantVerified(a)
		s.ok("Close", a.Close())
	}
	s.compressedDamage()
}

// compressedDamage stores what does not decode, as a server that looks at headers alone may.
func (s *suite) compressedDamage() {
	x := s.compressedSample("packed/bad", 9, "")
	bad := slices.Clone(x.Cells[4])
	bad[4]++ // its raw length
	x.Cells[4], x.Info[4].CRC = bad, crc32.Checksum(bad, castagnoli)
	x.Put(s, s.s)
	a, err := s.s.Open(s.Context(), x.Name)
	s.ok("Open", err)
	var problems []store.Problem
	s.ok("Verify", a.Verify(s.Context(), nil, func(p store.Problem) { problems = append(problems, p) }))
	if len(problems) != 1 || problems[0].Cell != 4 || !strings.Contains(problems[0].Text, "cannot be decoded") {
		s.Errorf("found %+v", problems)
	}
	s.ok("Close", a.Close())
}
