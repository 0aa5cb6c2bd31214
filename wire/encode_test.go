package wire

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
)

// TestAppendIsMarshal compares what is written by hand with what the JSON package makes of the same struct, with every member
// empty and set.
func TestAppendIsMarshal(t *testing.T) {
	texts := []string{"", "a", "crc32c", "<&> a/b~", "\x1f", "\x7f", "quote \" back \\ line\n tab\t \x00 \x7f é 日本 🚢 \u2028 <&>"}
	times := []time.Time{{}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 11, 27, 23, 59, 59, 123456789, time.UTC), time.Date(2026, 1, 2, 3, 4, 5, 120000000, time.UTC)}
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(v reflect.Value) {
		switch p := v.Addr().Interface().(type) {
		case *string:
			*p = texts[r.IntN(len(texts))]
		case **string:
			if *p = nil; r.IntN(2) == 0 {
				*p = new(texts[r.IntN(len(texts))])
			}
		case *ID:
			p[0], p[15] = byte(r.Uint32()), byte(r.Uint32())
		case *jsontext.Value:
			*p = [...]jsontext.Value{jsontext.Value(`{"a":[1,null,"é"]}`), jsontext.Value(`"<f4"`), nil}[r.IntN(3)]
		case *bool:
			*p = r.IntN(2) == 0
		case *[]string:
			*p = [][]string{nil, {}, {"a"}, {"a", "b\""}}[r.IntN(4)]
		case *[][2]uint64:
			*p = [][][2]uint64{nil, {}, {{0, 1}}, {{3, 1 << 40}, {7, 9}}}[r.IntN(4)]
		case *int64:
			*p = []int64{0, 1, 1 << 53, -1}[r.IntN(4)]
		case *int:
			*p = []int{0, 1, 1 << 40}[r.IntN(3)]
		case *Digest:
			*p = Digest{Kind: "none"}
			if r.IntN(2) == 0 {
				*p = Digest{Kind: "sha256", Root: &Root{1, 2, 31: 0xff}}
			}
		case *time.Time:
			*p = times[r.IntN(len(times))]
		default:
			t.Fatalf("%T", p)
		}
	}
	for _, m := range []any{PutMessage{}, GetMessage{}, ReceiptMessage{}, MetaMessage{}} {
		for range 500 {
			v := reflect.New(reflect.TypeOf(m)).Elem()
			for i := range v.NumField() {
				pick(v.Field(i))
			}
			if f := v.FieldByName("Array"); f.IsValid() && f.IsNil() {
				f.Set(reflect.ValueOf(jsontext.Value(`{}`))) // it must be there
			}
			want, err := json.Marshal(v.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if got := Encode(v.Interface()); string(got) != string(want) {
				t.Fatalf("seed %d: %T\n%s\nwant\n%s", seed, m, got, want)
			}
		}
	}
}

func TestEncodeFrame(t *testing.T) {
	h := Header{Kind: Get, Flags: Critical, Stream: 7}
	m := GetMessage{Name: "a/b", Takes: []string{FeatureFill}}
	if got, want := EncodeFrame(h, m), AppendFrame(nil, h, Encode(m)); !slices.Equal(got, want) {
		t.Errorf("%x\nwant\n%x", got, want)
	}
	h = Header{Kind: Done, Stream: 7, Index: 3}
	if got, want := EncodeFrame(h, nil), AppendFrame(nil, h, nil); !slices.Equal(got, want) {
		t.Errorf("%x\nwant\n%x", got, want)
	}
}

// TestDescribeOwned changes what Describe returned: the next who asks must not see it.
func TestDescribeOwned(t *testing.T) {
	text := jsontext.Value(`{"zarr_format":3,"node_type":"array","shape":[4,6],"data_type":"float32","chunk_grid":{"name":"regular","configuration":{"chunk_shape":[2,6]}},` +
		`"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":0.0,` +
		`"codecs":[{"name":"transpose","configuration":{"order":[1,0]}},{"name":"bytes","configuration":{"endian":"little"}}],"dimension_names":["x","y"],"attributes":{}}`)
	for round := range 3 {
		d, err := Describe(text, jsontext.Value(`"<f4"`))
		if err != nil {
			t.Fatal(err)
		}
		m := &d.Array.Meta
		if !m.Shape.Equal(array.Shape{4, 6}) || !m.Cell.Equal(array.Shape{2, 6}) || m.Order[0] != 1 || m.DimNames[0].Name != "x" || d.DType.String() != "<f4" {
			t.Fatalf("round %d: %+v", round, m)
		}
		m.Shape[0], m.Cell[0], m.Order[0], m.DimNames[0].Name = 9, 9, 9, "other"
	}
	for _, numpy := range []jsontext.Value{jsontext.Value(`">f4"`), jsontext.Value(`"<f8"`)} { // refused, though the text is known
		if _, err := Describe(text, numpy); err == nil {
			t.Errorf("%s was taken", numpy)
		}
	}
	for i := range 3 * maxKept { // more than are kept
		other := jsontext.Value(string(text[:len(text)-1]) + `,"more` + string(rune('A'+i%26)) + string(rune('A'+i/26)) + `":{"must_understand":false}}`)
		if _, err := Describe(other, nil); err != nil {
			t.Fatal(err)
		}
	}
	lately.mu.Lock()
	defer lately.mu.Unlock()
	if len(lately.kept) > maxKept {
		t.Errorf("%d descriptions are kept", len(lately.kept))
	}
}

// TestMembers looks at texts that are valid JSON in ways that clients do not write.
func TestMembers(t *testing.T) {
	for text, good := range map[string]bool{
		" {\t\"name\" :\r\n \"x\" , \"more\":[{\"name\":null},\"]}\\\"\"] }\n": true,
		`{"n\u0061me":"x"}`:                 true,
		`{"n\u0061me":null}`:                false,
		`{"name":null}`:                     false,
		`{"other":{"name":"x"}}`:            false,
		`{}`:                                false,
		`{"name":"x","must_understand":[]}`: true,
		`{"name":"x","a":null,"b":-1.5e3,"c":true,"d":{}}`: true,
	} {
		var m NameMessage
		if err := Decode([]byte(text), &m); (err == nil) != good {
			t.Errorf("%s: error %v", text, err)
		}
	}
}
