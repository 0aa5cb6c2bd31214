package array

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Field is a member of a structured type.
type Field struct {
	Name   string
	Title  string // "" when it has none
	Type   DType
	Offset int // bytes from the beginning of the element
}

func (f Field) equal(o Field) bool {
	return f.Name == o.Name && f.Title == o.Title && f.Offset == o.Offset && f.Type.Equal(o.Type)
}

// structFlags are what NumPy remembers of how a structured type was made.
type structFlags struct {
	aligned bool // with align=True
	record  bool // np.record instead of np.void
}

// Fields returns the members of a structured type, nil for others.
func (d DType) Fields() []Field {
	if d.kind != Struct {
		return nil
	}
	return append([]Field(nil), d.more.fields...)
}

// newStruct checks and makes a structured type of size bytes. Errors wrap
// ErrUnsupportedDType.
func newStruct(fields []Field, size int, flags structFlags) (DType, error) {
	refuse := func(format string, args ...any) (DType, error) {
		return DType{}, fmt.Errorf("array: structured dtype: %w: %s", ErrUnsupportedDType, fmt.Sprintf(format, args...))
	}
	if len(fields) > MaxFields {
		return refuse("%d fields, the most is %d", len(fields), MaxFields)
	}
	if size < 0 || size > MaxItemSize {
		return refuse("an element of %d bytes, the most is %d", size, MaxItemSize)
	}
	seen := map[string]bool{}
	for _, f := range fields {
		for _, name := range []string{f.Name, f.Title} {
			if name != "" && seen[name] {
				return refuse("the name %s twice", quote(name))
			}
			seen[name] = true
		}
		if f.Name == "" || len(f.Name) > MaxDimNameBytes || len(f.Title) > MaxDimNameBytes {
			return refuse("a name has 1 to %d bytes", MaxDimNameBytes)
		}
		if f.Offset < 0 || f.Offset > size || f.Type.ItemSize() > size-f.Offset {
			return refuse("the field %s reaches over the element's %d bytes", quote(f.Name), size)
		}
	}
	d := DType{kind: Struct, size: int32(size), more: &detail{fields: fields, flags: flags}}
	if n := d.Stored().rawBytes(); n > MaxRawSize {
		return refuse("%d bytes of an element rest as raw bytes, the most is %d", n, MaxRawSize)
	}
	return d, nil
}

// rawBytes returns how many bytes of an element, which is as Stored says, rest as raw_bytes.
func (d DType) rawBytes() (n int) {
	switch d.kind {
	case Raw:
		return int(d.size)
	case Struct:
		for _, f := range d.more.fields {
			n += f.Type.rawBytes()
		}
	}
	return n
}

// newSubarray makes the type of a field that is an array of its own.
func newSubarray(base DType, shape []int) (DType, error) {
	size, err := Shape(shape).Bytes(base.ItemSize())
	if err != nil || size > MaxRawSize || len(shape) == 0 { // it rests as raw bytes
		return DType{}, fmt.Errorf("array: field of shape %v of %v: %w: an element of arrays has at most %d bytes", Shape(shape), base, ErrUnsupportedDType, MaxRawSize)
	}
	if base.more != nil && base.more.base != nil {
		return DType{}, fmt.Errorf("array: field: %w: a subarray of subarrays", ErrUnsupportedDType)
	}
	return DType{kind: Raw, size: int32(size), more: &detail{base: &base, shape: shape}}, nil
}

// Stored returns the type in which elements travel and rest, which is one that
// Zarr has (spec/WIRE.md §5.9): d itself for scalars; complex numbers in
// little-endian order (a reader takes the halves of others for one another);
// structures packed, in one byte order; raw bytes for structures with fields
// that overlap, have no bytes or are arrays; one byte for a character for types
// without bytes.
func (d DType) Stored() DType {
	switch {
	case d.kind == Struct && d.size > 0 && d.packable():
		small, big := d.orders()
		return d.packed(big && !small)
	case d.size == 0:
		one := DType{kind: d.kind, size: 1}
		if d.kind == Text {
			one.size, one.big = 4, d.big
		}
		if d.kind == Struct {
			one.kind = Raw
		}
		return one
	case d.kind == Struct, d.kind == Raw:
		return DType{kind: Raw, size: d.size}
	case d.kind == Complex:
		return d.withOrder(false)
	}
	return d
}

// Exact returns the type that numpy, the exact dtype (ParseNumPy), says of
// elements that are stored as stored; without numpy it is that type itself. It
// refuses two that do not belong together.
func Exact(numpy []byte, stored DType) (DType, error) {
	if numpy == nil {
		if stored.kind == Complex && stored.big {
			return DType{}, fmt.Errorf("array: %w: %v is stored in little-endian order, and numpy says which it has", ErrUnsupportedDType, stored)
		}
		return stored, nil
	}
	d, err := ParseNumPy(numpy)
	if err != nil {
		return DType{}, err
	}
	if s := d.Stored(); !s.Equal(stored) {
		return DType{}, fmt.Errorf("numpy says %v, which is stored as %v, and array %v", d, s, stored)
	}
	return d, nil
}

// packable reports whether the fields can be told apart by Zarr's struct.
func (d DType) packable() bool {
	fields := d.Fields()
	slices.SortFunc(fields, func(a, b Field) int { return cmp.Compare(a.Offset, b.Offset) })
	end := 0
	for _, f := range fields {
		t := f.Type
		if t.size == 0 || f.Offset < end || t.more != nil && t.more.base != nil || t.kind == Struct && !t.packable() {
			return false
		}
		end = f.Offset + int(t.size)
	}
	return len(fields) > 0
}

// orders reports which byte orders the fields have.
func (d DType) orders() (little, big bool) {
	if d.kind != Struct {
		return d.HasByteOrder() && !d.big, d.HasByteOrder() && d.big
	}
	for _, f := range d.more.fields {
		l, b := f.Type.orders()
		little, big = little || l, big || b
	}
	return little, big
}

func (d DType) packed(big bool) DType {
	if d.kind != Struct {
		return d.withOrder(big)
	}
	fields := make([]Field, len(d.more.fields))
	at := 0
	for i, f := range d.more.fields {
		fields[i] = Field{Name: f.Name, Type: f.Type.packed(big), Offset: at}
		at += fields[i].Type.ItemSize()
	}
	return DType{kind: Struct, size: int32(at), big: big, more: &detail{fields: fields}}
}

// withOrder returns the type in the given byte order, fields included.
func (d DType) withOrder(big bool) DType {
	if d.kind == Struct {
		out := d
		more := *d.more
		more.fields = make([]Field, len(d.more.fields))
		for i, f := range d.more.fields {
			f.Type = f.Type.withOrder(big)
			more.fields[i] = f
		}
		out.big, out.more = big, &more
		return out
	}
	d.big = big && d.HasByteOrder()
	return d
}

// ParseNumPy reads the member numpy of a PUT or META (spec/WIRE.md §5.1): a type
// string, or an object for a structured type. Errors wrap ErrUnsupportedDType.
func ParseNumPy(raw jsontext.Value) (DType, error) { return parseNumPy(raw, 0) }

func parseNumPy(raw jsontext.Value, depth int) (DType, error) {
	refuse := func(why string) (DType, error) { return DType{}, refuseType(string(raw), why) }
	if raw.Kind() == '"' {
		text, err := jsonString(raw)
		if err != nil {
			return refuse(err.Error())
		}
		return ParseDType(text)
	}
	if depth > MaxTypeDepth {
		return refuse("nested too deep")
	}
	list, err := members(raw)
	if err != nil {
		return refuse(err.Error())
	}
	m := map[string]jsontext.Value{}
	for _, e := range list {
		m[e.name] = e.value
	}
	if base, ok := m["base"]; ok {
		b, err := parseNumPy(base, depth+1)
		if err != nil {
			return DType{}, err
		}
		shape, err := jsonInts(m["shape"])
		if err != nil {
			return refuse(err.Error())
		}
		return newSubarray(b, shape)
	}
	fields, err := parseFields(m, depth)
	if err != nil {
		return DType{}, err
	}
	size, err := strconv.ParseInt(string(m["itemsize"]), 10, 32)
	if err != nil {
		return refuse("itemsize is missing")
	}
	flags := structFlags{aligned: string(m["aligned"]) == "true", record: string(m["record"]) == "true"}
	return newStruct(fields, int(size), flags)
}

func parseFields(m map[string]jsontext.Value, depth int) ([]Field, error) {
	refuse := func(err error) ([]Field, error) {
		return nil, fmt.Errorf("array: structured dtype: %w: %w", ErrUnsupportedDType, err)
	}
	names, err := elements(m["names"], MaxFields)
	if err != nil {
		return refuse(err)
	}
	formats, err := elements(m["formats"], MaxFields)
	if err != nil {
		return refuse(err)
	}
	offsets, err := elements(m["offsets"], MaxFields)
	if err != nil {
		return refuse(err)
	}
	titles := make([]jsontext.Value, len(names))
	if raw, ok := m["titles"]; ok {
		if titles, err = elements(raw, MaxFields); err != nil {
			return refuse(err)
		}
	}
	if len(formats) != len(names) || len(offsets) != len(names) || len(titles) != len(names) {
		return refuse(errors.New("names, formats, offsets and titles are not of one length"))
	}
	fields := make([]Field, len(names))
	for i := range fields {
		f := &fields[i]
		if f.Name, err = jsonString(names[i]); err != nil {
			return refuse(err)
		}
		if titles[i] != nil && titles[i].Kind() != 'n' {
			if f.Title, err = jsonString(titles[i]); err != nil {
				return refuse(err)
			}
		}
		if f.Offset, err = strconv.Atoi(string(offsets[i])); err != nil {
			return refuse(err)
		}
		if f.Type, err = parseNumPy(formats[i], depth+1); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

// AppendNumPy appends the member numpy of a PUT or META.
func (d DType) AppendNumPy(dst []byte) []byte {
	if d.more != nil && d.more.base != nil {
		dst = append(dst, `{"base":`...)
		dst = d.more.base.AppendNumPy(dst)
		dst = append(dst, `,"shape":`...)
		return append(appendInts(dst, d.more.shape), '}')
	}
	if d.kind != Struct {
		dst, _ = jsontext.AppendQuote(dst, d.String())
		return dst
	}
	fields := d.more.fields
	titled := false
	each := func(name string, value func(f Field)) {
		dst = append(dst, name...)
		for i, f := range fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			titled = titled || f.Title != ""
			value(f)
		}
		dst = append(dst, ']')
	}
	each(`{"names":[`, func(f Field) { dst = appendQuoted(dst, f.Name) })
	each(`,"formats":[`, func(f Field) { dst = f.Type.AppendNumPy(dst) })
	each(`,"offsets":[`, func(f Field) { dst = strconv.AppendInt(dst, int64(f.Offset), 10) })
	dst = append(dst, `,"itemsize":`...)
	dst = strconv.AppendInt(dst, int64(d.size), 10)
	if titled {
		each(`,"titles":[`, func(f Field) {
			if f.Title == "" {
				dst = append(dst, "null"...)
			} else {
				dst = appendQuoted(dst, f.Title)
			}
		})
	}
	if d.more.flags.aligned {
		dst = append(dst, `,"aligned":true`...)
	}
	if d.more.flags.record {
		dst = append(dst, `,"record":true`...)
	}
	return append(dst, '}')
}

func appendQuoted(dst []byte, text string) []byte {
	out, err := jsontext.AppendQuote(dst, text)
	if err != nil { // invalid UTF-8 cannot come from JSON or a checked header
		return append(bytes.Clone(dst), `""`...)
	}
	return out
}
