package array

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func mustType(t testing.TB, typestr string) DType {
	t.Helper()
	d, err := ParseDType(typestr)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	wireOf23 = `{"zarr_format":3,"node_type":"array","shape":[2,3,4],"data_type":"float32",` +
		`"chunk_grid":{"name":"regular","configuration":{"chunk_shape":[2,2,4]}},` +
		`"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":0.0,` +
		`"codecs":[{"name":"transpose","configuration":{"order":[1,2,0]}},{"name":"bytes","configuration":{"endian":"big"}}],` +
		`"dimension_names":["x_0","x_1","x_2"],"attributes":{}}`
	storedOf23 = `{"zarr_format":3,"node_type":"array","shape":[2,3,4],"data_type":"float32",` +
		`"chunk_grid":{"name":"regular","configuration":{"chunk_shape":[2,4,4]}},` +
		`"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":0.0,` +
		`"codecs":[{"name":"sharding_indexed","configuration":{"chunk_shape":[2,2,4],` +
		`"codecs":[{"name":"transpose","configuration":{"order":[1,2,0]}},{"name":"bytes","configuration":{"endian":"big"}}],` +
		`"index_codecs":[{"name":"bytes","configuration":{"endian":"little"}},{"name":"crc32c"}],"index_location":"end"}}],` +
		`"dimension_names":["x_0","x_1","x_2"],"attributes":{}}`
	storedOfScalar = `{"zarr_format":3,"node_type":"array","shape":[],"data_type":"bool",` +
		`"chunk_grid":{"name":"regular","configuration":{"chunk_shape":[]}},` +
		`"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":false,` +
		`"codecs":[{"name":"sharding_indexed","configuration":{"chunk_shape":[],` +
		`"codecs":[{"name":"bytes"}],` +
		`"index_codecs":[{"name":"bytes","configuration":{"endian":"little"}},{"name":"crc32c"}],"index_location":"end"}}],` +
		`"dimension_names":[],"attributes":{"a":  1}}`
	storedOfEmpty = `{"zarr_format":3,"node_type":"array","shape":[3,0],"data_type":"complex64",` +
		`"chunk_grid":{"name":"regular","configuration":{"chunk_shape":[3,1]}},` +
		`"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":[0.0,0.0],` +
		`"codecs":[{"name":"sharding_indexed","configuration":{"chunk_shape":[3,1],` +
		`"codecs":[{"name":"bytes","configuration":{"endian":"little"}}],` +
		`"index_codecs":[{"name":"bytes","configuration":{"endian":"little"}},{"name":"crc32c"}],"index_location":"end"}}],` +
		`"dimension_names":["e_0","e_1"],"attributes":{}}`
)

// TestMeta_golden pins the texts, which zarr-python 3.1.6 and TensorStore 0.1.86
// were seen to open.
func TestMeta_golden(t *testing.T) {
	permuted := Meta{Shape: Shape{2, 3, 4}, DType: mustType(t, ">f4"), Cell: Shape{2, 2, 4}, Order: Order{1, 2, 0}, DimNames: DefaultDimNames("run/x", 3)}
	scalar := Meta{Shape: Shape{}, DType: mustType(t, "|b1"), Cell: Shape{}, DimNames: DefaultDimNames("s", 0), Attributes: jsontext.Value(`{"a":  1}`)}
	empty := Meta{Shape: Shape{3, 0}, DType: mustType(t, "<c8"), Cell: Shape{3, 1}, DimNames: DefaultDimNames("e", 2)}
	for _, tt := range []struct {
		name   string
		meta   Meta
		append func(*Meta, []byte) ([]byte, error)
		want   string
	}{
		{"wire", permuted, (*Meta).AppendWire, wireOf23},
		{"stored", permuted, (*Meta).AppendStored, storedOf23},
		{"stored 0-d", scalar, (*Meta).AppendStored, storedOfScalar},
		{"stored empty", empty, (*Meta).AppendStored, storedOfEmpty},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.append(&tt.meta, []byte("--"))
			if err != nil || string(got) != "--"+tt.want {
				t.Fatalf("%v\ngot  %s\nwant %s", err, got, tt.want)
			}
			z, err := ParseZarrArray([]byte(tt.want))
			if err != nil {
				t.Fatal(err)
			}
			stored := strings.HasPrefix(tt.name, "stored")
			if !z.Meta.Equal(&tt.meta) || z.IsStoredForm() != stored || z.IsWireForm() == stored {
				t.Errorf("%+v", z)
			}
			if node, err := ZarrNodeType(got[2:]); node != "array" || err != nil {
				t.Errorf("node type %s, %v", node, err)
			}
		})
	}
	group := AppendGroup(nil)
	if node, err := ZarrNodeType(group); node != "group" || err != nil {
		t.Errorf("group: %s, %v", node, err)
	}
	if _, err := ParseZarrArray(group); !errors.Is(err, ErrZarr) {
		t.Errorf("a group is an array: %v", err)
	}
}

func TestMeta_refuses(t *testing.T) {
	good := func() Meta {
		return Meta{Shape: Shape{4, 6}, DType: mustType(t, "<f8"), Cell: Shape{2, 6}, DimNames: DefaultDimNames("a", 2)}
	}
	for _, tt := range []struct {
		name   string
		change func(*Meta)
		want   error
	}{
		{"no type", func(m *Meta) { m.DType = DType{} }, ErrZarr},
		{"cell of 0", func(m *Meta) { m.Cell[0] = 0 }, ErrShape},
		{"cell of one axis", func(m *Meta) { m.Cell = Shape{1} }, ErrShape},
		{"order", func(m *Meta) { m.Order = Order{0, 0} }, ErrShape},
		{"padded overflow", func(m *Meta) { m.Shape, m.Cell = Shape{1, 1}, Shape{1 << 30, 1 << 31} }, ErrShape},
		{"no names", func(m *Meta) { m.DimNames = nil }, ErrZarr},
		{"one name", func(m *Meta) { m.DimNames = m.DimNames[:1] }, ErrZarr},
		{"long name", func(m *Meta) { m.DimNames[1].Name = strings.Repeat("x", 1025) }, ErrZarr},
		{"name not UTF-8", func(m *Meta) { m.DimNames[1].Name = "\xff" }, ErrZarr},
		{"codec", func(m *Meta) { m.Codecs = []Codec{{Name: "gzip"}} }, ErrUnsupportedZarr},
		{"fill", func(m *Meta) { m.Fill = jsontext.Value(`"x"`) }, ErrZarr},
		{"attributes", func(m *Meta) { m.Attributes = jsontext.Value(`{"a":1},"x":{}`) }, ErrZarr},
	} {
		m := good()
		tt.change(&m)
		for form, appendTo := range map[string]func([]byte) ([]byte, error){"wire": m.AppendWire, "stored": m.AppendStored} {
			if got, err := appendTo([]byte("x")); !errors.Is(err, tt.want) || string(got) != "x" {
				t.Errorf("%s, %s: %v, %q", tt.name, form, err, got)
			}
		}
	}
	m := good()
	m.DimNames[0] = DimName{Null: true}
	m.DimNames[1].Name = "a\"\u00e9\n"
	raw, err := m.AppendStored(nil)
	if err != nil {
		t.Fatal(err)
	}
	if z, err := ParseZarrArray(raw); err != nil || !slices.Equal(z.DimNames, m.DimNames) {
		t.Errorf("names %v, %v", z.DimNames, err)
	}
}

// TestParseZarrArray_others takes what zarr-python and TensorStore write.
func TestParseZarrArray_others(t *testing.T) {
	for name, doc := range foreignDocs {
		z, err := ParseZarrArray([]byte(doc))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if z.IsStoredForm() {
			t.Errorf("%s is one of ours", name)
		}
	}
	z, err := ParseZarrArray([]byte(foreignDocs["zarr-python sharded"]))
	if err != nil || !z.ShardShape.Equal(Shape{4}) || !z.Cell.Equal(Shape{2}) || !z.IndexCRC || z.Separator != '/' || z.DimNames != nil {
		t.Errorf("%+v, %v", z, err)
	}
}

var foreignDocs = map[string]string{
	"zarr-python": `{"shape": [3, 5], "data_type": "int8", "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
		"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}, "fill_value": 0,
		"codecs": [{"name": "bytes"}], "attributes": {}, "zarr_format": 3, "node_type": "array", "storage_transformers": []}`,
	"zarr-python sharded": `{"shape": [10], "data_type": "float32", "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
		"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}, "fill_value": "NaN",
		"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [2], "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
		"index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}], "index_location": "end"}}],
		"attributes": {}, "zarr_format": 3, "node_type": "array", "storage_transformers": []}`,
	"short names": `{"zarr_format":3,"node_type":"array","shape":[1],"data_type":"uint8","fill_value":255,
		"chunk_grid":{"name":"regular","configuration":{"chunk_shape":[1]}},"chunk_key_encoding":"default","codecs":["bytes"]}`,
	"v2 keys": `{"zarr_format":3,"node_type":"array","shape":[1],"data_type":{"name":"uint8"},"fill_value":255,
		"chunk_grid":{"name":"regular","configuration":{"chunk_shape":[1]}},"chunk_key_encoding":{"name":"v2"},
		"codecs":[{"name":"bytes","configuration":{"endian":"little"}}],"dimension_names":[null]}`,
	"optional extension": `{"zarr_format":3,"node_type":"array","shape":[1],"data_type":"uint8","fill_value":255,
		"chunk_grid":{"name":"regular","configuration":{"chunk_shape":[1]}},"chunk_key_encoding":"default","codecs":["bytes"],
		"somebody's": {"must_understand": false, "x": [1, 2]}}`,
	"index at the start": `{"zarr_format":3,"node_type":"array","shape":[4],"data_type":"uint8","fill_value":0,
		"chunk_grid":{"name":"regular","configuration":{"chunk_shape":[4]}},"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},
		"codecs":[{"name":"sharding_indexed","configuration":{"chunk_shape":[4],"codecs":["bytes"],"index_codecs":[{"name":"bytes","configuration":{"endian":"little"}}],"index_location":"start"}}]}`,
}

// edit is one change to a good document, and the class of refusal it must meet.
type edit struct {
	name, old, new string
	want           error
}

var wireEdits = []edit{
	{"not an object", wireOf23, `[]`, ErrZarr},
	{"nothing", wireOf23, ``, ErrZarr},
	{"text after the end", `"attributes":{}}`, `"attributes":{}} x`, ErrZarr},
	{"second document", `"attributes":{}}`, `"attributes":{}}{}`, ErrZarr},
	{"member twice", `"attributes":{}`, `"attributes":{},"attributes":{}`, ErrZarr},
	{"member twice, escaped", `"attributes":{}`, `"attributes":{},"\u0061ttributes":{}`, ErrZarr},
	{"not UTF-8", `x_0`, "x\xff", ErrZarr},
	{"half a surrogate", `x_0`, `\ud800`, ErrZarr},
	{"format 2", `"zarr_format":3`, `"zarr_format":2`, ErrZarr},
	{"format 3.0", `"zarr_format":3`, `"zarr_format":3.0`, ErrZarr},
	{"no format", `"zarr_format":3,`, ``, ErrZarr},
	{"node", `"array"`, `"table"`, ErrZarr},
	{"no node", `"node_type":"array",`, ``, ErrZarr},
	{"no shape", `"shape":[2,3,4],`, ``, ErrZarr},
	{"shape number", `[2,3,4]`, `24`, ErrZarr},
	{"shape negative", `[2,3,4]`, `[2,-3,4]`, ErrShape},
	{"shape fraction", `[2,3,4]`, `[2,3.0,4]`, ErrZarr},
	{"shape exponent", `[2,3,4]`, `[2,3e1,4]`, ErrZarr},
	{"shape text", `[2,3,4]`, `[2,"3",4]`, ErrZarr},
	{"shape over int64", `[2,3,4]`, `[2,9223372036854775808,4]`, ErrZarr},
	{"shape overflows", `[2,3,4]`, `[2,4611686018427387904,4]`, ErrShape},
	{"shape of 65 axes", `[2,3,4]`, `[` + strings.Repeat("1,", 64) + `1]`, ErrZarr},
	{"shape of other axes", `[2,3,4]`, `[2,3]`, ErrShape},
	{"type unknown", `"float32"`, `"float33"`, ErrUnsupportedDType},
	{"type object", `"float32"`, `{"name":"numpy.datetime64","configuration":{"unit":"fortnight","scale_factor":1}}`, ErrUnsupportedDType},
	{"type list", `"float32"`, `["float32"]`, ErrUnsupportedDType},
	{"grid unknown", `"regular"`, `"rectangular"`, ErrUnsupportedZarr},
	{"grid without shape", `{"chunk_shape":[2,2,4]}`, `{}`, ErrZarr},
	{"grid with more", `"chunk_shape":[2,2,4]`, `"chunk_shape":[2,2,4],"x":1`, ErrUnsupportedZarr},
	{"chunk of 0", `"chunk_shape":[2,2,4]`, `"chunk_shape":[2,0,4]`, ErrShape},
	{"chunk padded over", `"chunk_shape":[2,2,4]`, `"chunk_shape":[2305843009213693952,1,1]`, ErrShape},
	{"chunk null", `"chunk_shape":[2,2,4]`, `"chunk_shape":null`, ErrZarr},
	{"keys unknown", `"name":"default"`, `"name":"hash"`, ErrUnsupportedZarr},
	{"separator", `"separator":"."`, `"separator":"-"`, ErrZarr},
	{"separator member", `"separator":"."`, `"sep":"."`, ErrUnsupportedZarr},
	{"no fill", `"fill_value":0.0,`, ``, ErrZarr},
	{"fill null", `"fill_value":0.0`, `"fill_value":null`, ErrZarr},
	{"order not a permutation", `[1,2,0]`, `[1,2,2]`, ErrShape},
	{"order short", `[1,2,0]`, `[1,0]`, ErrShape},
	{"order text", `[1,2,0]`, `"F"`, ErrZarr},
	{"order missing", `"order":[1,2,0]`, ``, ErrZarr},
	{"transpose twice", `{"name":"bytes"`, `{"name":"transpose","configuration":{"order":[1,2,0]}},{"name":"bytes"`, ErrUnsupportedZarr},
	{"no bytes", `,{"name":"bytes","configuration":{"endian":"big"}}`, ``, ErrZarr},
	{"no endian", `,"configuration":{"endian":"big"}`, ``, ErrZarr},
	{"endian", `"endian":"big"`, `"endian":"middle"`, ErrZarr},
	{"bytes member", `"endian":"big"`, `"endian":"big","x":1`, ErrUnsupportedZarr},
	{"configuration list", `{"endian":"big"}`, `["big"]`, ErrZarr},
	{"codec", `{"endian":"big"}}`, `{"endian":"big"}},{"name":"gzip","configuration":{"level":1}}`, ErrUnsupportedZarr},
	{"codec without name", `"name":"bytes",`, ``, ErrZarr},
	{"codec with more", `"name":"bytes",`, `"name":"bytes","id":1,`, ErrUnsupportedZarr},
	{"many codecs", `"codecs":[`, `"codecs":[` + strings.Repeat(`"bytes",`, 16), ErrZarr},
	{"transformers", `"attributes":{}`, `"attributes":{},"storage_transformers":[{"name":"x"}]`, ErrUnsupportedZarr},
	{"unknown member", `"attributes":{}`, `"attributes":{},"x":1`, ErrUnsupportedZarr},
	{"member to understand", `"attributes":{}`, `"attributes":{},"x":{"must_understand":true}`, ErrUnsupportedZarr},
	{"many members", `"attributes":{}`, `"attributes":{}` + manyMembers(), ErrZarr},
	{"names short", `["x_0","x_1","x_2"]`, `["x_0"]`, ErrZarr},
	{"names numbers", `["x_0","x_1","x_2"]`, `[0,1,2]`, ErrZarr},
	{"attributes list", `"attributes":{}`, `"attributes":[]`, ErrZarr},
	{"attributes deep", `"attributes":{}`, `"attributes":` + deepObject(17), ErrZarr},
	{"attributes very deep", `"attributes":{}`, `"attributes":` + deepObject(200000), ErrZarr},
	{"attributes NaN", `"attributes":{}`, `"attributes":{"a":NaN}`, ErrZarr},
	{"attributes twice inside", `"attributes":{}`, `"attributes":{"b":{"a":1,"a":2}}`, ErrZarr},
	{"attributes large", `"attributes":{}`, `"attributes":{"a":"` + strings.Repeat("x", MaxAttributesBytes) + `"}`, ErrZarr},
	{"document large", `"attributes":{}`, `"attributes":{}` + strings.Repeat(" ", MaxMetaBytes), ErrZarr},
}

var storedEdits = []edit{
	{"shard not whole cells", `"chunk_shape":[2,4,4]`, `"chunk_shape":[2,3,4]`, ErrZarr},
	{"shard of 0", `"chunk_shape":[2,4,4]`, `"chunk_shape":[2,0,4]`, ErrZarr},
	{"shard negative", `"chunk_shape":[2,4,4]`, `"chunk_shape":[2,-2,4]`, ErrZarr},
	{"shard of other axes", `"chunk_shape":[2,4,4]`, `"chunk_shape":[2,4]`, ErrZarr},
	{"shard overflows", `"chunk_shape":[2,4,4]`, `"chunk_shape":[4611686018427387904,4,4]`, ErrShape},
	{"shard in a shard", `"codecs":[{"name":"transpose"`, `"codecs":[{"name":"sharding_indexed"},{"name":"transpose"`, ErrUnsupportedZarr},
	{"codec around", `"index_location":"end"}}]`, `"index_location":"end"}},"crc32c"]`, ErrUnsupportedZarr},
	{"cell missing", `"chunk_shape":[2,2,4],`, ``, ErrZarr},
	{"cell null", `"chunk_shape":[2,2,4]`, `"chunk_shape":null`, ErrZarr},
	{"index codecs missing", `"index_codecs":[{"name":"bytes","configuration":{"endian":"little"}},{"name":"crc32c"}],`, ``, ErrZarr},
	{"index codec", `{"name":"crc32c"}`, `{"name":"gzip"}`, ErrUnsupportedZarr},
	{"index big-endian", `"endian":"little"`, `"endian":"big"`, ErrUnsupportedZarr},
	{"index location", `"index_location":"end"`, `"index_location":"middle"`, ErrZarr},
	{"shard member", `"index_location":"end"`, `"index_location":"end","x":1`, ErrUnsupportedZarr},
}

func deepObject(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }

func checkEdits(t *testing.T, good string, edits []edit) {
	t.Helper()
	for _, tt := range edits {
		doc := strings.Replace(good, tt.old, tt.new, 1)
		if doc == good {
			t.Errorf("%s: nothing was changed", tt.name)
		}
		if z, err := ParseZarrArray([]byte(doc)); !errors.Is(err, tt.want) || z != nil {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestParseZarrArray_refuses(t *testing.T) {
	checkEdits(t, wireOf23, wireEdits)
	checkEdits(t, storedOf23, storedEdits)
	for n := range storedOf23 {
		if _, err := ParseZarrArray([]byte(storedOf23[:n])); !errors.Is(err, ErrZarr) {
			t.Errorf("%d of %d bytes: %v", n, len(storedOf23), err)
		}
	}
}

func manyMembers() string {
	var b strings.Builder
	for i := range MaxMembers {
		fmt.Fprintf(&b, `,"x%d":{"must_understand":false}`, i)
	}
	return b.String()
}

func TestCheckAttributes(t *testing.T) {
	for _, raw := range []string{
		`{}`, ` {"a" : [1, 2.50, 1e400, 123456789012345678901234567890, null, "\u00e9"]}` + "\n",
		strings.Repeat(`{"a":`, 15) + "[]" + strings.Repeat("}", 15),
	} {
		if err := CheckAttributes([]byte(raw)); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{``, ` `, `[]`, `1`, `null`, `{`, `{}{}`, `{} x`, `{"a":1,}`, `{"a":Infinity}`, `{"a":1,"a":2}`, `{"a":"` + "\xff" + `"}`,
		`{'a':1}`, `{"a":01}`, `// x` + "\n{}", strings.Repeat(`{"a":`, 16) + "[]" + strings.Repeat("}", 16)} {
		if err := CheckAttributes([]byte(raw)); !errors.Is(err, ErrZarr) {
			t.Errorf("%.80s: %v", raw, err)
		}
	}
}

// TestZarrArray_attributesVerbatim: not one byte of the user's text changes.
func TestZarrArray_attributesVerbatim(t *testing.T) {
	raw := `{ "shape":[9],"dtype" : "x", "big":12345678901234567890123, "f":1.10e+00,` + "\n\t" + `"\u0061":"\/\u00e9é"}`
	m := Meta{Shape: Shape{1}, DType: mustType(t, "|u1"), Cell: Shape{1}, DimNames: DefaultDimNames("a", 1), Attributes: jsontext.Value(raw)}
	for _, appendTo := range []func([]byte) ([]byte, error){m.AppendWire, m.AppendStored} {
		doc, err := appendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		z, err := ParseZarrArray(doc)
		if err != nil || string(z.Attributes) != raw {
			t.Errorf("%s, %v", z.Attributes, err)
		}
	}
}

func TestFillBytes(t *testing.T) {
	for _, tt := range []struct{ dtype, fill, want string }{ // want "": refused
		{"|b1", `true`, "01"}, {"|b1", `false`, "00"}, {"|b1", `1`, ""}, {"|b1", `"true"`, ""},
		{"|i1", `-128`, "80"}, {"|i1", `128`, ""}, {"|i1", `1.0`, ""}, {"|i1", `"1"`, ""},
		{"|u1", `255`, "ff"}, {"|u1", `256`, ""}, {"|u1", `-1`, ""},
		{"<i2", `258`, "0201"}, {">i2", `258`, "0102"}, {">i8", `-9223372036854775808`, "8000000000000000"},
		{"<u8", `18446744073709551615`, "ffffffffffffffff"}, {"<u8", `18446744073709551616`, ""},
		{"<f4", `1`, "0000803f"}, {">f4", `1.0`, "3f800000"}, {">f4", `-0.0`, "80000000"}, {">f4", `"NaN"`, "7fc00000"},
		{">f4", `"Infinity"`, "7f800000"}, {">f4", `"-Infinity"`, "ff800000"}, {">f4", `"0x7fc00001"`, "7fc00001"},
		{">f4", `"0x7fc0"`, ""}, {">f4", `"0x7fc0000g"`, ""}, {">f4", `"0x+fc00001"`, ""}, {">f4", `"nan"`, ""}, {">f4", `null`, ""},
		{">f8", `0.1`, "3fb999999999999a"}, {">f8", `"0xfff8000000000001"`, "fff8000000000001"}, {">f8", `1e999`, ""},
		{">f2", `1.0`, "3c00"}, {">f2", `-2`, "c000"}, {">f2", `65504`, "7bff"}, {">f2", `65519.9`, "7bff"}, {">f2", `65520`, "7c00"},
		{">f2", `6.103515625e-05`, "0400"}, {">f2", `5.960464477539063e-08`, "0001"}, {">f2", `2.98e-08`, "0000"}, {">f2", `2.99e-08`, "0001"},
		{">f2", `1.00048828125`, "3c00"}, {">f2", `1.00146484375`, "3c02"}, {">f2", `1.9999`, "4000"}, {">f2", `6.1e-05`, "03ff"}, {">f2", `"NaN"`, "7e00"},
		{">c8", `[1.0,"NaN"]`, "3f8000007fc00000"}, {">c16", `[0.0, -1]`, "0000000000000000bff0000000000000"},
		{">c8", `[1.0]`, ""}, {">c8", `[1,2,3]`, ""}, {">c8", `1.0`, ""}, {">c8", `[1,null]`, ""},
	} {
		d := mustType(t, tt.dtype)
		got, err := FillBytes(d, jsontext.Value(tt.fill))
		if tt.want == "" {
			if !errors.Is(err, ErrZarr) {
				t.Errorf("%s of %s: %x, %v", tt.fill, d, got, err)
			}
			continue
		}
		if err != nil || hex.EncodeToString(got) != tt.want {
			t.Errorf("%s of %s: %x, %v, want %s", tt.fill, d, got, err, tt.want)
		}
	}
	for _, typ := range scalarTypes {
		d := DType{kind: typ.kind, size: typ.size}
		got, err := FillBytes(d, jsontext.Value(zeroFill(d)))
		if err != nil || !bytes.Equal(got, make([]byte, d.ItemSize())) {
			t.Errorf("zero of %s: %x, %v", d, got, err)
		}
	}
}

func FuzzZarrArray(f *testing.F) {
	for _, doc := range []string{wireOf23, storedOf23, storedOfScalar, storedOfEmpty, string(AppendGroup(nil))} {
		f.Add([]byte(doc))
	}
	for _, doc := range foreignDocs {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		_, _ = ZarrNodeType(raw)
		z, err := ParseZarrArray(raw)
		if !bytes.Equal(raw, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			for _, class := range []error{ErrZarr, ErrUnsupportedZarr, ErrUnsupportedDType, ErrShape} {
				if errors.Is(err, class) {
					return
				}
			}
			t.Fatalf("an error of no class: %v", err)
		}
		if z.DimNames == nil {
			z.DimNames = DefaultDimNames("a", len(z.Shape))
		}
		for _, appendTo := range []func([]byte) ([]byte, error){z.AppendWire, z.AppendStored} {
			doc, err := appendTo(nil)
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseZarrArray(doc)
			if err != nil {
				t.Fatalf("%v\n%s", err, doc)
			}
			if !again.Meta.Equal(&z.Meta) || again.IsWireForm() == again.IsStoredForm() {
				t.Fatalf("%+v became %+v", z, again)
			}
		}
	})
}
