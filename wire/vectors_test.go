package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
)

// stanza is one vector, see spec/vectors/README.md.
type stanza struct {
	name   string
	values map[string]string
	fields [][2]string
	hex    []byte
}

// vectors reads a file of spec/vectors.
func vectors(t *testing.T, file string) []stanza {
	t.Helper()
	text, err := os.ReadFile("../spec/vectors/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var list []stanza
	for _, block := range strings.Split(string(text), "\n\n") {
		s := stanza{values: map[string]string{}}
		for _, line := range strings.Split(block, "\n") {
			key, value, ok := strings.Cut(line, ": ")
			if strings.HasPrefix(line, "#") || line == "" {
				continue
			}
			if !ok {
				key, value = strings.TrimSuffix(line, ":"), ""
			}
			switch key {
			case "name":
				s.name = value
			case "field":
				name, v, _ := strings.Cut(value, " ")
				s.fields = append(s.fields, [2]string{name, v})
			case "hex":
				s.hex = append(s.hex, unpack(t, value)...)
				s.values[key] = ""
			default:
				s.values[key] = value
			}
		}
		if s.name != "" {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		t.Fatalf("%s has no vectors", file)
	}
	return list
}

func unpack(t *testing.T, text string) (b []byte) {
	t.Helper()
	for _, token := range strings.Fields(text) {
		digits, times, repeated := strings.Cut(token, "*")
		n := 1
		if repeated {
			n, _ = strconv.Atoi(times)
		}
		p, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, bytes.Repeat(p, n)...)
	}
	return b
}

// wants tells whether a code is one of the classes of an expectation.
func (s *stanza) wants(code Code) bool {
	codes, _, _ := strings.Cut(s.values["expect"], " ")
	for _, c := range strings.Split(codes, "|") {
		if c == string(code) {
			return true
		}
	}
	return false
}

func TestVectors_frames(t *testing.T) {
	for _, s := range vectors(t, "frames.txt") {
		var d Decoder
		d.Feed(s.hex)
		f, ok, err := d.Next()
		expect := s.values["expect"]
		switch {
		case strings.HasPrefix(expect, "truncated"):
			if ok || err != nil {
				t.Errorf("%s: %v %v, want more bytes to be asked for", s.name, ok, err)
			}
		case expect == "skip":
			if !ok || err != nil || f.Kind.Known() {
				t.Errorf("%s: %+v %v %v, want an unknown frame", s.name, f.Header, ok, err)
			}
		case strings.HasPrefix(expect, "aborted"):
			if !ok || err != nil || f.Status != Aborted {
				t.Errorf("%s: %v %v %v", s.name, f.Status, ok, err)
			}
		case expect == "ok":
			got := fmt.Sprintf("kind %d flags %d handles %d stream %d length %d index %d raw %d",
				f.Kind, f.Flags, f.Handles, f.Stream, f.Length, f.Index, f.Raw)
			want := ""
			for _, field := range s.fields {
				want += " " + field[0] + " " + field[1]
			}
			if err != nil || got != want[1:] {
				t.Errorf("%s: %v\ngot  %s\nwant %s", s.name, err, got, want[1:])
			}
			if again := AppendFrame(nil, f.Header, f.Payload); !bytes.Equal(again, s.hex) {
				t.Errorf("%s: encoded again it is\n%x\nnot\n%x", s.name, again, s.hex)
			}
		default:
			if err == nil && (s.values["to"] == "server" && !f.Kind.ToServer() || s.values["to"] == "client" && !f.Kind.ToClient()) {
				err = errorf("3", 4, CodeProtocol, "%v is not for this side", f.Kind)
			}
			if err == nil || !s.wants(CodeOf(err)) {
				t.Errorf("%s: %v, want %s", s.name, err, expect)
			}
		}
	}
}

func TestVectors_digests(t *testing.T) {
	for _, s := range vectors(t, "digests.txt") {
		if want, ok := s.values["crc32c"]; ok {
			if got := fmt.Sprintf("%08x", Checksum(s.hex)); got != want {
				t.Errorf("%s: CRC32C %s, want %s", s.name, got, want)
			}
			continue
		}
		var m array.Meta
		var err error
		if m.DType, err = array.ParseDType(s.values["descr"]); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		for key, list := range map[string]any{"shape": &m.Shape, "cell": &m.Cell, "order": &m.Order} {
			if err := json.Unmarshal([]byte(s.values[key]), list); err != nil {
				t.Fatalf("%s: %s: %v", s.name, key, err)
			}
		}
		n, _ := strconv.Atoi(s.values["cells"])
		var leaves [][32]byte
		for i := range n {
			size := len(s.hex) / n
			leaves = append(leaves, leaf(s.hex[i*size:][:size]))
		}
		if got := Root(m.Root(leaves)).String(); got != s.values["root"] {
			t.Errorf("%s: root %s, want %s", s.name, got, s.values["root"])
		}
	}
}

func TestVectors_grids(t *testing.T) {
	for _, s := range vectors(t, "grids.txt") {
		var shape, want array.Shape
		var order array.Order
		for key, list := range map[string]any{"shape": &shape, "cell": &want, "order": &order} {
			if err := json.Unmarshal([]byte(s.values[key]), list); err != nil {
				t.Fatalf("%s: %s: %v", s.name, key, err)
			}
		}
		size, _ := strconv.Atoi(s.values["itemsize"])
		target, _ := strconv.Atoi(s.values["target"])
		if got := array.DefaultCell(shape, order, size, target); !got.Equal(want) {
			t.Errorf("%s: cell %v, want %v", s.name, got, want)
		}
	}
}

// messageOf returns an empty message of a kind, and the checks that its receiver makes beyond the syntax.
func messageOf(kind string) (m any, check func() error) {
	switch kind {
	case "HELLO":
		hello := &HelloMessage{}
		return hello, hello.Check
	case "PUT":
		put := &PutMessage{}
		return put, put.Check
	case "FINISH":
		m = &FinishMessage{}
	case "GET":
		get := &GetMessage{}
		return get, get.Check
	case "STAT", "DELETE", "VERIFY":
		name := &NameMessage{}
		return name, name.Check
	case "LIST":
		list := &ListMessage{}
		return list, list.Check
	case "ACCEPT":
		accept := &AcceptMessage{}
		return accept, accept.Check
	case "RECEIPT":
		receipt := &ReceiptMessage{}
		return receipt, receipt.Check
	case "META":
		meta := &MetaMessage{}
		return meta, meta.Check
	case "ENTRIES":
		m = &EntriesMessage{}
	case "REPORT":
		m = &ReportMessage{}
	case "ERROR":
		m = &Failure{}
	default:
		panic(kind)
	}
	return m, func() error { return nil }
}

func leaf(b []byte) [32]byte { return sha256.Sum256(b) }

func TestVectors_messages(t *testing.T) {
	for _, s := range vectors(t, "messages.txt") {
		payload := s.hex
		if text, ok := s.values["json"]; ok {
			payload = []byte(text)
		}
		if len(payload) == 0 && s.values["kind"] == "FINISH" {
			continue // a FINISH may have none
		}
		m, check := messageOf(s.values["kind"])
		err := Decode(payload, m)
		if err == nil {
			err = check()
		}
		if expect := s.values["expect"]; expect != "ok" {
			if err == nil || !s.wants(CodeOf(err)) {
				t.Errorf("%s: %v, want %s\n%.300s", s.name, err, expect, payload)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v\n%.300s", s.name, err, payload)
			continue
		}
		var got map[string]jsontext.Value
		if err := json.Unmarshal(Encode(m), &got); err != nil {
			t.Fatal(err)
		}
		for _, f := range s.fields {
			want := jsontext.Value(f[1])
			have := got[f[0]]
			if have == nil && (string(want) == `""` || string(want) == "false" || string(want) == "null" || string(want) == `"{}"` || string(want) == "0" || string(want) == `"crc32c"` || string(want) == "1000") {
				continue // left out: the default
			}
			want.Canonicalize()
			have.Canonicalize()
			if !bytes.Equal(want, have) {
				t.Errorf("%s: %s is %s, want %s", s.name, f[0], have, want)
			}
		}
	}
}
