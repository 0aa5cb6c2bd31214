package session

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire"
)

// messageOf is a PUT as a client writes it, with more put behind the members that must be there.
func messageOf(id wire.ID, more string) []byte {
	meta := `{"zarr_format":3,"node_type":"array","shape":[10,3],"data_type":"float32","chunk_grid":{"name":"regular","configuration":{"chunk_shape":[4,3]}},` +
		`"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":0.0,` +
		`"codecs":[{"name":"transpose","configuration":{"order":[1,0]}},{"name":"bytes","configuration":{"endian":"little"}}],"dimension_names":["x",null],"attributes":{}}`
	return fmt.Appendf(nil, `{"name":"a","id":"%v","array":%s%s}`, id, meta, more)
}

var sameAnnounced = cmp.Options{
	cmp.AllowUnexported(announced{}), cmp.Comparer(func(a, b array.Grid) bool { return fmt.Sprint(a) == fmt.Sprint(b) }),
	cmp.Comparer(func(a, b array.DType) bool { return a.Equal(b) }),
}

// TestPutForm reads messages by the form of one before, which must be what reading them anew gives.
func TestPutForm(t *testing.T) {
	for _, more := range []string{
		"", `,"digest":"sha256"`, `,"resume":true,"join":true`, `,"attributes":"{\"id\":\"x\"}"`, `,"sparse":true,"codec_why":"because"`,
		`,"if_absent":true,"durability":"relaxed"`, `,"numpy":"<f4"`,
	} {
		var forms putForms
		first := wire.ID{1, 2, 3}
		if _, err := forms.read(messageOf(first, more)); err != nil {
			t.Fatal(err)
		}
		if len(forms.kept) != 1 {
			t.Fatalf("%s: %d forms", more, len(forms.kept))
		}
		for _, id := range []wire.ID{first, {0xff, 15: 0x10}, {15: 1}} {
			b := messageOf(id, more)
			got, ok := forms.find(b)
			want, err := readPut(b)
			if !ok || err != nil {
				t.Fatalf("%s: found %v, error %v", more, ok, err)
			}
			if d := cmp.Diff(want, got, sameAnnounced); d != "" {
				t.Errorf("%s: %s", more, d)
			}
			got.spec.Meta.Shape[0], got.spec.Meta.DimNames[0].Name = 99, "changed" // by its owner
		}
	}
}

// TestPutForm_refused has messages that are like one before but not so that its form may be taken.
func TestPutForm_refused(t *testing.T) {
	id := wire.ID{1, 2, 3}
	var forms putForms
	good := messageOf(id, "")
	if _, err := forms.read(good); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{
		messageOf(wire.ID{}, ""),
		bytes.Replace(good, []byte(id.String()), []byte(strings.Repeat("z", 32)), 1),
		bytes.Replace(good, []byte(id.String()), []byte(id.String()[2:]+`","`), 1),
		good[:len(good)-1], append(bytes.Clone(good), ' '), bytes.Replace(good, []byte(`"a"`), []byte(`"b"`), 1), nil,
	} {
		if _, ok := forms.find(b); ok {
			t.Errorf("a form fits %s", b)
		}
	}
	if _, err := forms.read(messageOf(wire.ID{}, "")); err == nil {
		t.Error("an id of zeros is accepted")
	}
	// The id must be where it is looked for.
	nested := `{"x":{"y":1,"id":"` + id.String() + `"},"id" :"` + id.String() + `",` + string(messageOf(id, "")[len(`{"name":"a","id":"`)+34:])
	nested = strings.Replace(nested, `{"x"`, `{"name":"a","x"`, 1)
	if a, err := readPut([]byte(nested)); err != nil || a.spec.ID != store.ID(id) {
		t.Fatalf("the nested message is wrong: %v", err)
	}
	a, _ := readPut([]byte(nested))
	if newPutForm([]byte(nested), &a) != nil {
		t.Error("the id of another object is taken for the message's")
	}
	long := messageOf(id, `,"attributes":"{\"a\":\"`+strings.Repeat("x", maxFormText)+`\"}"`)
	if _, err := forms.read(long); err != nil || len(forms.kept) != 1 {
		t.Errorf("%d forms, error %v", len(forms.kept), err)
	}
}

// TestPutForms_bounded keeps the forms of the last names only.
func TestPutForms_bounded(t *testing.T) {
	var forms putForms
	named := func(i int) []byte {
		return bytes.Replace(messageOf(wire.ID{1}, ""), []byte(`"a"`), fmt.Appendf(nil, `"a%d"`, i), 1)
	}
	for i := range 3*maxForms + 1 {
		if _, err := forms.read(named(i)); err != nil {
			t.Fatal(err)
		}
		if _, ok := forms.find(named(i)); !ok {
			t.Errorf("the form of name %d is not kept", i)
		}
	}
	if _, ok := forms.find(named(0)); ok || len(forms.kept) != maxForms {
		t.Errorf("%d forms, the first among them: %v", len(forms.kept), ok)
	}
}

// TestLastGet reads the same GET twice, and others between.
func TestLastGet(t *testing.T) {
	var last lastGet
	texts := []string{`{"name":"a"}`, `{"name":"a","cells":[[1,2],[5,1]]}`, `{"name":"b","takes":["alias"]}`}
	for _, text := range append(texts, texts[2], texts[1], texts[1], texts[0]) {
		got, err := last.read([]byte(text))
		var want wire.GetMessage
		if err := wire.Decode([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", text, err, d)
		}
	}
	for _, bad := range []string{``, `{}`, `{"name":".a"}`, `{"name":"a"`} {
		for range 2 {
			if _, err := last.read([]byte(bad)); err == nil {
				t.Errorf("%q is accepted", bad)
			}
		}
	}
}
