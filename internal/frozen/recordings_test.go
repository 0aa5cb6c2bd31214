package frozen

import (
	"bytes"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// recordings are all conversations.
func recordings() (list []recording) {
	for _, store := range []string{"dir", "mem"} {
		for _, by := range []string{"go", "py"} {
			list = append(list,
				recording{name: by + "-calls-" + store, about: "every call of a client, and its refusals", store: store, calls: everyCall()},
				recording{name: by + "-kinds-" + store, about: "a put and a get of every kind of array", store: store, calls: putAndGet(by)},
				recording{name: by + "-resend-" + store, about: "a cell that was damaged on its way to the server", store: store, tamper: damage('C'), calls: putAndGetOne(false)},
				recording{name: by + "-again-" + store, about: "a cell that was damaged on its way to the client", store: store, tamper: damage('S'), calls: putAndGetOne(false)},
				recording{name: by + "-resume-" + store, about: "a put over a line that breaks", store: store, tamper: breakLine, calls: putAndGetOne(true)},
			)
		}
		for _, s := range scripts {
			s.name, s.store = "raw-"+s.name+"-"+store, store
			list = append(list, s)
		}
	}
	old := slices.Concat(reading(slices.Concat(kinds(), sparse(), []call{replaced(), {Name: "foreign"}})),
		[]call{replaced(), deleted(), unfinished(), {Op: "get", Name: "unfinished"}, {Op: "verify", Name: "unfinished"}})
	return append(list,
		recording{name: "go-store", about: "all that is in the frozen store", store: "frozen", calls: old},
		recording{name: "py-store", about: "all that is in the frozen store", store: "frozen", calls: old})
}

func everyCall() []call {
	a := call{Op: "put", Name: "lab/a", ID: id(1), NumPy: jsontext.Value(`"<f4"`), Shape: []int{5, 7}, Cell: []int{2, 4}, Data: "0123456789abcdef", Attrs: `{"k":1}`, Codec: "none", Digest: "sha256"}
	other := a
	other.ID, other.IfAbsent = id(2), true
	same := a
	clash := a
	clash.Name, clash.ID = "lab", id(3)
	twice := a
	twice.Shape = []int{5, 6}
	twice.Name = "lab/b"
	return []call{
		{Op: "ping"}, a, {Op: "stat", Name: "lab/a"}, {Op: "get", Name: "lab/a"}, {Op: "read", Name: "lab/a", Region: "1:3,2:6"}, {Op: "list", Prefix: "la"},
		{Op: "verify", Name: "lab/a"}, same, other, clash, {Op: "get", Name: "nothing"}, {Op: "delete", Name: "lab/a"}, {Op: "stat", Name: "lab/a"}, same, {Op: "list"},
		{Op: "delete", Name: "lab/a"},
	}
}

func putAndGet(by string) (list []call) {
	puts := kinds()
	if by == "py" {
		puts = append(puts, sparse()...)
	}
	for _, p := range puts {
		list = append(list, p, call{Op: "get", Name: p.Name})
	}
	return list
}

func putAndGetOne(resume bool) []call {
	c := call{Op: "put", Name: "a", ID: id(10), NumPy: jsontext.Value(`"<i4"`), Shape: []int{100}, Cell: []int{30}, Data: "000102030405060708090a0b0c0d0e0f", Codec: "none", Resume: resume}
	if resume { // as much as the Python client resumes
		c.Shape, c.Cell, c.Codec = []int{300000}, []int{100000}, "zstd"
	}
	return []call{c, {Op: "get", Name: "a"}}
}

// damage changes a byte of the second CHUNK.
func damage(side byte) func(from byte, conn, n int, frame []byte) bool {
	return func(from byte, _, n int, b []byte) bool {
		if h, _ := wire.ParseHeader(b); from == side && h.Kind == wire.Chunk && n == 2 {
			b[wire.HeaderSize+3] ^= 0x10
		}
		return false
	}
}

// breakLine ends the first connection behind its second CHUNK.
func breakLine(from byte, conn, n int, b []byte) bool {
	h, _ := wire.ParseHeader(b)
	return from == 'C' && conn == 1 && h.Kind == wire.Chunk && n == 2
}

// small is an array of three cells of bytes, and its cells.
func small(t testing.TB, name string, n int) (m wire.PutMessage, cells [][]byte) {
	c := call{Name: name, ID: id(n), NumPy: jsontext.Value(`"|u1"`), Shape: []int{10}, Cell: []int{4}, Data: "0102030405060708090a"}
	return message(t, c), [][]byte{{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 0, 0}}
}

func chunk(stream uint32, i int, data []byte) []byte {
	return frame(wire.Chunk, stream, uint64(i), uint32(len(data)), data)
}

func put(stream uint32, m wire.PutMessage) []byte {
	return frame(wire.Put, stream, 0, 0, wire.Encode(m))
}

func finish(stream uint32, n uint64) []byte { return frame(wire.Finish, stream, n, 0, nil) }

// store puts the small array.
func (s *script) store(stream uint32, name string, n int) {
	m, cells := small(s.t, name, n)
	s.say(1, put(stream, m))
	for i, c := range cells {
		s.say(1, chunk(stream, i, c))
	}
	s.say(1, finish(stream, 3))
	s.hear(1, wire.Receipt)
}

// refused sends a request that is answered with ERROR.
func (s *script) refused(conn int, frames ...[]byte) {
	s.t.Helper()
	s.say(conn, frames...)
	s.error(conn)
}

// error takes frames up to ERROR.
func (s *script) error(conn int) {
	s.t.Helper()
	for {
		b, err := readFrame(s.conn(conn))
		if err != nil {
			s.t.Fatal(err)
		}
		s.tr.lines = append(s.tr.lines, line{from: 'S', conn: conn, data: b})
		if h, _ := wire.ParseHeader(b); h.Kind == wire.Fail {
			return
		}
	}
}

// scripts are the conversations that no client of ours has.
var scripts = []recording{
	{name: "opening", about: "what is no conversation: other bytes, a bad header, a wrong version, a frame before HELLO", script: func(s *script) {
		s.refused(1, []byte("GET / HTTP/1.1\r\nHost: ndferry\r\n\r\n"))
		s.closed(1)
		bad := frame(wire.Ping, 0, 1, 0, nil)
		bad[16] ^= 1
		s.greet(2)
		s.refused(2, bad)
		s.closed(2)
		s.refused(3, frame(wire.Hello, 0, 0, 0, text(`{"versions":[2,3],"software":"new","features":[],"codecs":["none"],"digests":["crc32c"],"credit":16777216}`)))
		s.closed(3)
		s.refused(4, frame(wire.Stat, 1, 0, 0, text(`{"name":"a"}`)))
		s.closed(4)
		s.say(5, frame(wire.Hello, 0, 0, 0, text(`{"versions":[1,9],"software":"newer","features":["unheard-of"],"codecs":["none","x"],"digests":["crc32c","y"],"credit":16777216,"more":{"a":[1]}}`)))
		s.hear(5, wire.Hello)
		s.say(5, frame(wire.Ping, 0, 7, 0, nil))
		s.hear(5, wire.Pong)
	}},
	{name: "unknown", about: "kinds and members that nobody knows: skipped, or refused when critical", script: func(s *script) {
		s.greet(1)
		s.say(1, frame(200, 0, 5, 6, text("skip me")), frame(wire.Auth, 0, 0, 0, text("reserved")), frame(wire.Ping, 0, 1, 0, nil))
		s.hear(1, wire.Pong)
		s.refused(1, frame(wire.Stat, 1, 0, 0, text(`{"name":"a","news":1}`)))
		s.refused(1, frame(wire.Stat, 2, 0, 0, text(`{"name":"a","news":1,"must_understand":["news"]}`)))
		s.refused(1, frame(wire.Stat, 3, 0, 0, text(`{"name":"../a"}`)))
		h := wire.Header{Kind: 201, Flags: wire.Critical, Length: 1}
		s.refused(1, wire.AppendFrame(nil, h, []byte{1}))
		s.closed(1)
		s.greet(2)
		s.refused(2, frame(wire.Stat, 1, 0, 0, text(`{"name":"a","name":"b"}`)))
		s.closed(2)
	}},
	{name: "pages", about: "pages of a list", script: func(s *script) {
		s.greet(1)
		for i, name := range []string{"b", "a/2", "a/1", "c"} {
			s.store(uint32(i+1), name, 20+i)
		}
		for i, q := range []string{`{}`, `{"limit":2}`, `{"after":"a/2","limit":1}`, `{"prefix":"a"}`, `{"prefix":"z"}`} {
			s.say(1, frame(wire.List, uint32(10+i), 0, 0, text(q)))
			s.hear(1, wire.Entries)
		}
	}},
	{name: "cells", about: "ranges of cells, and cells that do not travel", script: func(s *script) {
		s.greet(1, wire.FeatureAlias, wire.FeatureFill)
		m, cells := small(s.t, "a", 30)
		m.Sparse = true
		m.Array = wholeArray(s.t, 24)
		s.say(1, put(1, m), chunk(1, 0, cells[0]), frame(wire.Alias, 1, 1, 2, []byte{0, 0, 0, 0, 0, 0, 0, 0}), chunk(1, 3, cells[1]), frame(wire.Fill, 1, 4, 2, nil), finish(1, 6))
		s.hear(1, wire.Receipt)
		for i, q := range []string{`{"name":"a"}`, `{"name":"a","takes":["alias","fill"]}`, `{"name":"a","cells":[[4,1],[0,2]]}`, `{"name":"a","cells":[]}`} {
			s.say(1, frame(wire.Get, uint32(10+i), 0, 0, text(q)))
			s.hear(1, wire.Done)
		}
		s.refused(1, frame(wire.Get, 20, 0, 0, text(`{"name":"a","cells":[[5,2]]}`)))
	}},
	{name: "refused", about: "puts that are refused, each for its own reason", script: func(s *script) {
		s.greet(1)
		m, cells := small(s.t, "a", 40)
		s.refused(1, put(1, m), chunk(1, 0, cells[0]), finish(1, 3))
		padded := []byte{9, 10, 1, 0}
		s.refused(1, put(2, m), chunk(2, 0, cells[0]), chunk(2, 1, cells[1]), chunk(2, 2, padded))
		hurt := chunk(3, 1, cells[1])
		hurt[wire.HeaderSize] ^= 1
		s.refused(1, put(3, m), chunk(3, 0, cells[0]), hurt)
		m.Digest = "sha256"
		s.refused(1, put(4, m), chunk(4, 0, cells[0]), chunk(4, 1, cells[1]), chunk(4, 2, cells[2]),
			frame(wire.Finish, 4, 3, 0, text(`{"root":"0000000000000000000000000000000000000000000000000000000000000000"}`)))
		m.Digest = ""
		s.refused(1, put(5, m), chunk(5, 0, cells[0]), frame(wire.Cancel, 5, 0, 1, nil))
		s.say(1, frame(wire.Ping, 0, 1, 0, nil))
		s.hear(1, wire.Pong)
		s.refused(1, put(6, m), chunk(6, 0, cells[0]), chunk(6, 0, cells[0]))
		s.refused(1, frame(wire.Put, 7, 0, 0, text(`{"name":"a"}`)))
	}},
	{name: "resume", about: "a put that is taken up, with checkpoints", script: func(s *script) {
		s.greet(1)
		m, cells := small(s.t, "a", 50)
		m.Resume = true
		s.say(1, put(1, m))
		s.hear(1, wire.Accept)
		s.say(1, chunk(1, 0, cells[0]))
		s.pause()
		s.say(1, chunk(1, 2, cells[2]))
		s.hear(1, wire.Ack)
		s.refused(1, frame(wire.Cancel, 1, 0, 0, nil))
		s.say(1, put(2, m))
		s.hear(1, wire.Accept)
		s.say(1, chunk(2, 1, cells[1]), finish(2, 3))
		s.hear(1, wire.Receipt)
		s.say(1, put(3, m))
		s.hear(1, wire.Receipt)
	}},
	{name: "join", about: "a put over two connections", script: func(s *script) {
		s.greet(1, wire.FeatureJoin)
		s.greet(2, wire.FeatureJoin)
		m, cells := small(s.t, "a", 60)
		m.Resume = true
		joined := m
		joined.Join = true
		s.refused(2, put(1, joined))
		s.say(1, put(1, m))
		s.hear(1, wire.Accept)
		s.say(2, put(2, joined))
		s.hear(2, wire.Accept)
		s.say(2, chunk(2, 2, cells[2]), chunk(2, 0, cells[0]), finish(2, 2))
		s.hear(2, wire.Done)
		s.say(1, chunk(1, 1, cells[1]), finish(1, 3))
		s.hear(1, wire.Receipt)
	}},
	{name: "credit", about: "credit: a reader that grants little, a writer that gets it back", script: func(s *script) {
		s.say(1, frame(wire.Hello, 0, 0, 0, text(`{"versions":[1,1],"software":"thrifty","features":[],"codecs":["none","blosc"],"digests":["crc32c"],"credit":16777216}`)))
		s.hear(1, wire.Hello)
		m, cells := large(s.t)
		s.say(1, put(1, m))
		for i, c := range cells {
			s.say(1, frame(wire.Chunk, 1, uint64(i), 8<<20, c))
		}
		s.hear(1, wire.Credit)
		s.say(1, finish(1, uint64(len(cells))))
		s.hear(1, wire.Receipt)
		s.say(1, frame(wire.Get, 2, 0, 0, text(`{"name":"large"}`)))
		s.hear(1, wire.Chunk)
		s.hear(1, wire.Chunk)
		s.say(1, frame(wire.Credit, 0, 8<<20, 0, nil))
		s.hear(1, wire.Done)
	}},
	{name: "goaway", about: "a server that goes: what is open ends, nothing new begins", script: func(s *script) {
		s.greet(1)
		m, cells := small(s.t, "a", 80)
		m.Resume = true
		s.say(1, put(1, m))
		s.hear(1, wire.Accept)
		s.drain()
		s.hear(1, wire.GoAway)
		s.refused(1, frame(wire.Stat, 2, 0, 0, text(`{"name":"a"}`)))
		s.say(1, chunk(1, 0, cells[0]), chunk(1, 1, cells[1]), chunk(1, 2, cells[2]), finish(1, 3))
		s.hear(1, wire.Receipt)
		s.closed(1)
	}},
}

// wholeArray is the metadata of n bytes in cells of 4.
func wholeArray(t testing.TB, n int) jsontext.Value {
	return message(t, call{Name: "a", ID: id(0), NumPy: jsontext.Value(`"|u1"`), Shape: []int{n}, Cell: []int{4}}).Array
}

// large is an array of three cells of 8 MiB that travel as few bytes.
func large(t testing.TB) (m wire.PutMessage, cells [][]byte) {
	c := call{Name: "large", ID: id(70), NumPy: jsontext.Value(`"<i8"`), Shape: []int{3 << 20}, Cell: []int{1 << 20}}
	m = message(t, c)
	d, err := array.ParseNumPy(c.NumPy)
	if err != nil {
		t.Fatal(err)
	}
	meta := array.Meta{Shape: c.Shape, DType: d, Cell: c.Cell, DimNames: array.DefaultDimNames(c.Name, 1)}
	params := codec.Default(codec.Zstd, 8).Settled()
	meta.Codecs = []array.Codec{array.Blosc{CName: params.Name.String(), CLevel: params.Level, TypeSize: params.TypeSize, Shuffle: "shuffle"}.Codec()}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Array = text
	for i := range 3 {
		raw := bytes.Repeat([]byte{byte(i), 0, 0, 0, 0, 0, 0, 0}, 1<<20)
		b, err := codec.AppendEncode(nil, raw, params)
		if err != nil {
			t.Fatal(err)
		}
		cells = append(cells, b)
	}
	return m, cells
}
