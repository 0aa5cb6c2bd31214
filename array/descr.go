package array

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The descr of a .npy header is a type string or, for structured types, a list
// of (name, format) or (name, format, shape), where name may be (title, name),
// format is again a descr, and a field without a name is padding (numpy.lib
// format.descr_to_dtype).

// npyDType reads a descr.
func npyDType(v literal) (DType, error) { return npyDescr(v, 0) }

func npyDescr(v literal, depth int) (DType, error) {
	switch {
	case depth > MaxTypeDepth:
		return DType{}, npyError("descr is nested too deep")
	case v.kind == litString && len(v.text) == 3 && v.text[1:] == "f1":
		return DType{kind: Raw, size: 1}, nil // what np.save says of float8_e5m2, and np.load refuses
	case v.kind == litString:
		return ParseDType(v.text)
	case v.kind != litList:
		return DType{}, npyError("descr is not a type string or a list of fields")
	}
	var fields []Field
	at := 0
	for _, item := range v.items {
		f, padding, err := npyField(item, depth)
		if err != nil {
			return DType{}, err
		}
		f.Offset = at
		if at += f.Type.ItemSize(); at > MaxItemSize {
			return DType{}, npyError("descr has too many bytes")
		}
		if !padding {
			fields = append(fields, f)
		}
	}
	return newStruct(fields, at, structFlags{})
}

func npyField(v literal, depth int) (f Field, padding bool, err error) {
	bad := npyError("a field of descr is not (name, format) or (name, format, shape)")
	if v.kind != litTuple || len(v.items) < 2 || len(v.items) > 3 {
		return f, false, bad
	}
	name := v.items[0]
	if name.kind == litTuple && len(name.items) == 2 && name.items[0].kind == litString {
		f.Title, name = name.items[0].text, name.items[1]
	}
	if name.kind != litString {
		return f, false, bad
	}
	f.Name = name.text
	if f.Type, err = npyDescr(v.items[1], depth+1); err != nil {
		return f, false, err
	}
	if len(v.items) == 3 {
		var shape []int
		if v.items[2].kind == litInt {
			shape = []int{v.items[2].num}
		} else if shape, err = npyShape(v.items[2]); err != nil {
			return f, false, err
		}
		if f.Type, err = newSubarray(f.Type, shape); err != nil {
			return f, false, err
		}
	}
	return f, f.Name == "" && f.Type.kind == Raw && f.Type.more == nil, nil
}

// NPYType returns the type that a .npy file says elements of d have. exact
// reports whether that is d: types of ml_dtypes and structures whose fields
// overlap, or do not come in order, become void of the same bytes, and what
// NumPy remembers of how a structure was made is lost.
func (d DType) NPYType() (npy DType, exact bool) {
	switch d.kind {
	case Small:
		return DType{kind: Raw, size: d.size}, false
	case Struct:
		if _, ok := d.descr(); !ok {
			return DType{kind: Raw, size: d.size}, false
		}
	}
	return d, true
}

// descr returns the text of dtype.descr, false when NumPy has none.
func (d DType) descr() (string, bool) {
	var b strings.Builder
	ok := d.writeDescr(&b)
	return b.String(), ok
}

func (d DType) writeDescr(b *strings.Builder) bool {
	if d.kind != Struct {
		npy, _ := d.NPYType()
		b.WriteString(pyRepr(npy.String()))
		return true
	}
	// NumPy lists the fields by their place; one that begins inside of another is
	// refused.
	fields := slices.Clone(d.more.fields)
	b.WriteByte('[')
	at, first := 0, true
	pad := func(to int) {
		if to > at {
			writeComma(b, &first)
			b.WriteString("('', '|V" + strconv.Itoa(to-at) + "')")
		}
	}
	for _, f := range fields {
		if f.Offset < at {
			return false
		}
		pad(f.Offset)
		writeComma(b, &first)
		b.WriteByte('(')
		if f.Title != "" {
			b.WriteString("(" + pyRepr(f.Title) + ", " + pyRepr(f.Name) + ")")
		} else {
			b.WriteString(pyRepr(f.Name))
		}
		b.WriteString(", ")
		t := f.Type
		if t.more != nil && t.more.base != nil {
			t = *t.more.base
		}
		if !t.writeDescr(b) {
			return false
		}
		if f.Type.more != nil && f.Type.more.base != nil {
			b.WriteString(", " + Shape(f.Type.more.shape).String())
		}
		b.WriteByte(')')
		at = f.Offset + f.Type.ItemSize()
	}
	pad(int(d.size))
	b.WriteByte(']')
	return true
}

func writeComma(b *strings.Builder, first *bool) {
	if !*first {
		b.WriteString(", ")
	}
	*first = false
}

// pyRepr writes a string as Python's repr does.
func pyRepr(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	out := []byte{q}
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, `\n`...)
		case r == '\r':
			out = append(out, `\r`...)
		case r == '\t':
			out = append(out, `\t`...)
		case unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		case r < 0x100:
			out = fmt.Appendf(out, `\x%02x`, r)
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = fmt.Appendf(out, `\U%08x`, r)
		}
	}
	return string(append(out, q))
}
