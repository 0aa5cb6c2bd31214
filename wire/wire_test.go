package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestCRC32C(t *testing.T) {
	if got := Checksum([]byte("123456789")); got != 0xE3069283 {
		t.Errorf("CRC32C of the nine digits is %08x", got)
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	for kind := range uses {
		h := sample(kind)
		b := AppendHeader([]byte("before"), h)
		if len(b) != 6+HeaderSize {
			t.Fatalf("%v: %d bytes", kind, len(b))
		}
		got, err := ParseHeader(b[6:])
		if err != nil || got != h {
			t.Errorf("%v: %+v, %v; want %+v", kind, got, err, h)
		}
	}
}

// sample is a good header of a kind.
func sample(k Kind) Header {
	h := Header{Kind: k, Flags: Critical, Stream: 7}
	u := uses[k]
	if u.connection {
		h.Stream = 0
	}
	if u.index {
		h.Index = 3
	}
	if u.raw {
		h.Raw = 1
	}
	if u.payload {
		h.Length = 20
	}
	if k == Alias {
		h.Length = AliasSize
	}
	return h
}

// TestHeaderEveryBit flips every bit of every kind of header: nothing passes, because the header has a checksum of its own.
func TestHeaderEveryBit(t *testing.T) {
	for kind := range uses {
		b := AppendHeader(nil, sample(kind))
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			if h, err := ParseHeader(b); err == nil {
				t.Errorf("%v with bit %d flipped passes as %+v", kind, bit, h)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// TestHeaderOutOfRange gives headers with a good checksum and a field that no conversation allows.
func TestHeaderOutOfRange(t *testing.T) {
	tests := []struct {
		name   string
		kind   Kind
		change func(*Header)
		code   Code
	}{
		{"unknown flag", Ping, func(h *Header) { h.Flags = 2 }, CodeProtocol},
		{"all flags", Chunk, func(h *Header) { h.Flags = 0xff }, CodeProtocol},
		{"descriptors", Chunk, func(h *Header) { h.Handles = 1 }, CodeProtocol},
		{"long control", Get, func(h *Header) { h.Length = MaxControl + 1 }, CodeLimit},
		{"long PUT", Put, func(h *Header) { h.Length = MaxDescribing + 1 }, CodeLimit},
		{"long CHUNK", Chunk, func(h *Header) { h.Length = MaxChunk + 1 }, CodeLimit},
		{"longest", Chunk, func(h *Header) { h.Length = 1<<32 - 1 }, CodeLimit},
		{"no cell", Chunk, func(h *Header) { h.Raw = 0 }, CodeProtocol},
		{"large cell", Chunk, func(h *Header) { h.Raw = MaxCell + 1 }, CodeLimit},
		{"cell number", Chunk, func(h *Header) { h.Index = MaxCells }, CodeLimit},
		{"cell number", Chunk, func(h *Header) { h.Index = 1<<64 - 1 }, CodeLimit},
		{"empty CHUNK", Chunk, func(h *Header) { h.Length = 0 }, CodeProtocol},
		{"CHUNK of the connection", Chunk, func(h *Header) { h.Stream = 0 }, CodeProtocol},
		{"PING with payload", Ping, func(h *Header) { h.Length = 1 }, CodeProtocol},
		{"PING on a stream", Ping, func(h *Header) { h.Stream = 1 }, CodeProtocol},
		{"no credit", Credit, func(h *Header) { h.Index = 0 }, CodeProtocol},
		{"much credit", Credit, func(h *Header) { h.Index = MaxCredit + 1 }, CodeProtocol},
		{"RESEND of no cell", Resend, func(h *Header) { h.Index = MaxCells }, CodeLimit},
		{"index of a PUT", Put, func(h *Header) { h.Index = 1 }, CodeProtocol},
		{"raw of a FINISH", Finish, func(h *Header) { h.Raw = 1 }, CodeProtocol},
		{"level", Ack, func(h *Header) { h.Raw = 3 }, CodeProtocol},
		{"unknown critical", Kind(200), func(h *Header) { h.Flags = Critical }, CodeUnsupported},
		{"reserved critical", Subscribe, func(h *Header) { h.Flags = Critical }, CodeUnsupported},
		{"long unknown", Kind(200), func(h *Header) { h.Length = MaxControl + 1 }, CodeLimit},
	}
	for _, test := range tests {
		h := sample(test.kind)
		test.change(&h)
		_, err := ParseHeader(AppendHeader(nil, h))
		if err == nil || CodeOf(err) != test.code {
			t.Errorf("%s, %+v: %v, want code %s", test.name, h, err, test.code)
		}
	}
	if _, err := ParseHeader(AppendHeader(nil, Header{Kind: 200, Length: 5})); err != nil {
		t.Errorf("an unknown kind that is not critical: %v", err)
	}
}

func TestParseHeaderOfOthers(t *testing.T) {
	for text, code := range map[string]Code{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n":                     CodeProtocol,
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS client hello": CodeProtocol,
		"NDF2" + strings.Repeat("\x00", 28):                             CodeProtocol,
		strings.Repeat("\x00", 32):                                      CodeProtocol,
		strings.Repeat("\xff", 32):                                      CodeProtocol,
	} {
		if _, err := ParseHeader([]byte(text)); CodeOf(err) != code {
			t.Errorf("%q: %v, want %s", text[:8], err, code)
		}
	}
}

// TestDecoderAnyCut feeds a conversation in pieces of every kind of length and gets the same frames.
func TestDecoderAnyCut(t *testing.T) {
	var stream []byte
	var want []Header
	rng := rand.New(rand.NewPCG(1, 2))
	for kind := range uses {
		h := sample(kind)
		payload := make([]byte, h.Length)
		for i := range payload {
			payload[i] = byte(rng.Uint32())
		}
		stream = AppendFrame(stream, h, payload)
		want = append(want, h)
	}
	for step := 1; step < len(stream); step += 1 + step/3 {
		var d Decoder
		var got []Header
		for rest := stream; len(rest) > 0; {
			n := min(step, len(rest))
			d.Feed(rest[:n])
			rest = rest[n:]
			for {
				f, ok, err := d.Next()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				got = append(got, f.Header)
			}
		}
		if len(got) != len(want) || d.Buffered() != 0 {
			t.Fatalf("in steps of %d: %d frames of %d, %d bytes left", step, len(got), len(want), d.Buffered())
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("in steps of %d: frame %d is %+v, want %+v", step, i, got[i], want[i])
			}
		}
	}
}

func TestTrailer(t *testing.T) {
	frame := AppendFrame(nil, Header{Kind: Get, Stream: 1}, []byte(`{"name":"a"}`))
	for i := HeaderSize; i < len(frame); i++ {
		bad := bytes.Clone(frame)
		bad[i] ^= 0x10
		var d Decoder
		d.Feed(bad)
		if _, ok, err := d.Next(); ok || err == nil {
			t.Errorf("byte %d changed: %v %v", i, ok, err)
		}
		if _, _, err := d.Next(); err == nil {
			t.Error("the decoder went on after an error")
		}
	}
	aborted := AppendHeader(nil, Header{Kind: Chunk, Flags: Critical, Stream: 1, Raw: 4, Length: 4})
	aborted = AppendTrailer(append(aborted, "fill"...), 0, Aborted)
	var d Decoder
	d.Feed(aborted)
	if f, ok, err := d.Next(); err != nil || !ok || f.Status != Aborted {
		t.Errorf("an aborted frame: %v %v %v", f.Status, ok, err)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	tests := []struct {
		text string
		code Code
	}{
		{`{"name":"a","name":"b"}`, CodeProtocol},
		{`{"name":"a"} x`, CodeProtocol},
		{`{"name":1}`, CodeProtocol},
		{`["name"]`, CodeProtocol},
		{``, CodeProtocol},
		{`null`, CodeProtocol},
		{"{\"name\":\"\xff\"}", CodeProtocol},
		{`{"name":"a","x":` + deep + `}`, CodeProtocol},
		{`{"name":"a","must_understand":["teleport"]}`, CodeUnsupported},
		{`{"name":"a","NAME":"b"}`, ""}, // another member: ignored
		{`{"NAME":"a"}`, CodeProtocol},  // and not the one that must be there
		{`{"name":null}`, CodeProtocol},
		{`{"name":"a","future":{"x":[1,2,3]}}`, ""},
		{`{"name":"a","must_understand":["name"]}`, ""},
		{`{"name":"[[[[{{{{"}`, ""},
	}
	for _, test := range tests {
		var m NameMessage
		err := Decode([]byte(test.text), &m)
		switch {
		case test.code == "" && err != nil:
			t.Errorf("%.60s: %v", test.text, err)
		case test.code != "" && (err == nil || CodeOf(err) != test.code):
			t.Errorf("%.60s: %v, want %s", test.text, err, test.code)
		}
		if strings.Contains(test.text, `"NAME":"b"`) && m.Name != "a" {
			t.Error("member names are matched without their case")
		}
	}
	var p PutMessage
	for _, text := range []string{`{"id":"12"}`, `{"id":"zz000000000000000000000000000000"}`} {
		if err := Decode([]byte(text), &p); CodeOf(err) != CodeInvalid {
			t.Errorf("%s: %v", text, err)
		}
	}
	var e *Error
	if err := Decode([]byte(`{`), &p); !errors.As(err, &e) || e.Section != "7" {
		t.Errorf("%v", err)
	}
}

func TestHelloCheck(t *testing.T) {
	for _, test := range []struct {
		change func(*HelloMessage)
		code   Code
	}{
		{func(m *HelloMessage) {}, ""},
		{func(m *HelloMessage) { m.Versions = [2]int{1, 7} }, ""},
		{func(m *HelloMessage) { m.Versions = [2]int{2, 7} }, CodeVersion},
		{func(m *HelloMessage) { m.Versions = [2]int{0, 1} }, CodeProtocol},
		{func(m *HelloMessage) { m.Versions = [2]int{3, 2} }, CodeProtocol},
		{func(m *HelloMessage) { m.Credit = MinCredit - 1 }, CodeProtocol},
		{func(m *HelloMessage) { m.Credit = MaxCredit + 1 }, CodeProtocol},
		{func(m *HelloMessage) { m.Software = strings.Repeat("x", 101) }, CodeProtocol},
	} {
		m := NewHello("test", MinCredit)
		test.change(&m)
		if err := m.Check(); (err == nil) != (test.code == "") || err != nil && CodeOf(err) != test.code {
			t.Errorf("%+v: %v, want %q", m, err, test.code)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	var all []byte
	for kind := range uses {
		h := sample(kind)
		all = AppendFrame(all, h, make([]byte, h.Length))
		f.Add(AppendFrame(nil, h, make([]byte, h.Length)), uint8(1))
	}
	f.Add(all, uint8(7))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole, cut := decodeAll(b, len(b)+1), decodeAll(b, int(step)+1)
		if !bytes.Equal(whole, cut) {
			t.Fatalf("whole %x, cut %x", whole, cut)
		}
	})
}

// decodeAll returns the frames that b has, appended again, and whether an error ended them.
func decodeAll(b []byte, step int) []byte {
	var d Decoder
	var out []byte
	for len(b) > 0 {
		n := min(step, len(b))
		d.Feed(b[:n])
		b = b[n:]
		for {
			f, ok, err := d.Next()
			if err != nil {
				return append(out, 'E')
			}
			if !ok {
				break
			}
			out = AppendHeader(out, f.Header)
			out = append(out, f.Payload...)
		}
	}
	return out
}

func FuzzMessages(f *testing.F) {
	for _, m := range []any{
		NewHello("x", MinCredit), PutMessage{Name: "a", Array: []byte(`{}`)}, GetMessage{Name: "a", Cells: [][2]uint64{{0, 1}}},
		ListMessage{Prefix: "a"}, FinishMessage{}, ReceiptMessage{}, MetaMessage{Array: []byte(`{}`)}, ReportMessage{}, NewFailure(CodeInvalid, "x"),
	} {
		f.Add(Encode(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []any{
			&HelloMessage{}, &PutMessage{}, &GetMessage{}, &NameMessage{}, &ListMessage{}, &FinishMessage{}, &AcceptMessage{},
			&ReceiptMessage{}, &MetaMessage{}, &EntriesMessage{}, &ReportMessage{},
		} {
			if Decode(b, m) == nil {
				Encode(m) // what was accepted can be said again
			}
		}
	})
}

// TestNewerLayout reads a frame of another layout: the error names both.
func TestNewerLayout(t *testing.T) {
	b := AppendFrame(nil, Header{Kind: Ping}, nil)
	b[3] = '2'
	if _, err := ParseHeader(b); err == nil || !strings.Contains(err.Error(), "frames of layout version '2', this side speaks version '1'") {
		t.Errorf("error %v", err)
	}
	m := NewHello("newer", 1<<20)
	m.Versions = [2]int{2, 3}
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "protocol versions 2 to 3, this side 1 to 1") {
		t.Errorf("error %v", err)
	}
}
