package array

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ErrUnsupportedDType is wrapped by every refusal of an element type; the text
// around it says what to do instead.
var ErrUnsupportedDType = errors.New("dtype not supported")

// Kind is the family of an element type: NumPy's dtype.kind character.
type Kind byte

// The kinds. The numbers are NumPy's letters, but for Small, whose types NumPy
// shows as void.
const (
	Bool      Kind = 'b'
	Int       Kind = 'i'
	Uint      Kind = 'u'
	Float     Kind = 'f'
	Complex   Kind = 'c'
	Datetime  Kind = 'M' // ticks of a unit since 1970, int64; the least is NaT
	Timedelta Kind = 'm'
	Bytes     Kind = 'S' // fixed length, filled up with NUL
	Text      Kind = 'U' // fixed length, UTF-32, filled up with NUL
	Raw       Kind = 'V' // bytes without meaning
	Struct    Kind = 'r' // named fields; NumPy's kind is V
	Small     Kind = 'E' // bfloat16 and the float8 family (ml_dtypes)
)

// String returns the kind's letter.
func (k Kind) String() string { return string(rune(k)) }

// DType is the type of one element: kind, size and byte order. The zero value
// is no type. Compare with Equal; DType is deliberately not comparable with ==,
// because later kinds carry units and fields.
type DType struct {
	_    [0]func()
	kind Kind
	size int32   // bytes of one element
	big  bool    // most significant byte first; false for types without an order
	more *detail // what some kinds have; immutable
}

// detail is what a type has beside kind, size and order.
type detail struct {
	name   string // Small
	unit   string // Datetime, Timedelta; "" is NumPy's generic unit
	scale  int    // of the unit
	fields []Field
	flags  structFlags
	shape  []int // of a subarray, with base; only in fields
	base   *DType
}

// scalarTypes lists every carried type. Zarr's names (data-types/index of the
// Zarr v3 specification) are NumPy's.
var scalarTypes = []struct {
	kind Kind
	size int32
	name string
}{
	{Bool, 1, "bool"},
	{Int, 1, "int8"}, {Int, 2, "int16"}, {Int, 4, "int32"}, {Int, 8, "int64"},
	{Uint, 1, "uint8"}, {Uint, 2, "uint16"}, {Uint, 4, "uint32"}, {Uint, 8, "uint64"},
	{Float, 2, "float16"}, {Float, 4, "float32"}, {Float, 8, "float64"},
	{Complex, 8, "complex64"}, {Complex, 16, "complex128"},
}

// smallTypes are the types of ml_dtypes that are carried, by the names that it
// and Zarr's registry give them.
var smallTypes = map[string]int32{
	"bfloat16": 2, "float8_e3m4": 1, "float8_e4m3": 1, "float8_e4m3b11fnuz": 1, "float8_e4m3fn": 1,
	"float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}

// ParseDType reads a NumPy type string (dtype.str, the array interface's
// typestr): "<f4", ">i8", "|b1", "<M8[25s]", "|S5", "<U3", "|V7", or the name of
// a type of ml_dtypes: "bfloat16", ">bfloat16", "float8_e4m3fn". Types without a byte order
// are taken with any of the three and become "|"; the others need "<" or ">".
// Errors wrap ErrUnsupportedDType.
func ParseDType(typestr string) (DType, error) {
	d, why := parseTypestr(typestr)
	if why != "" {
		return DType{}, refuseType(typestr, why)
	}
	return d, nil
}

func refuseType(text, why string) error {
	return fmt.Errorf("array: dtype %s: %w: %s", quote(text), ErrUnsupportedDType, why)
}

func parseTypestr(typestr string) (d DType, why string) {
	name, big := strings.CutPrefix(typestr, ">")
	if size, ok := smallTypes[name]; ok && (size > 1 || !big) {
		return DType{kind: Small, size: size, big: big, more: &detail{name: name}}, ""
	}
	if len(typestr) < 2 {
		return d, "not a NumPy type string such as <f4"
	}
	order, kind, rest := typestr[0], Kind(typestr[1]), typestr[2:]
	if order != '<' && order != '>' && order != '|' {
		return d, "it must begin with its byte order, <, > or |"
	}
	if why := unsupportedKind(kind, rest); why != "" {
		return d, why
	}
	digits, unit, _ := strings.Cut(rest, "[")
	size, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || digits[0] == '0' && len(digits) > 1 {
		return d, "it must end with its size in bytes"
	}
	switch kind {
	case Bytes, Raw, Text:
		if kind == Text {
			size *= 4
		}
		most := uint64(MaxItemSize)
		if kind == Raw {
			most = MaxRawSize
		}
		if unit != "" || size > most {
			return d, fmt.Sprintf("an element has at most %d bytes", most)
		}
		d = DType{kind: kind, size: int32(size), big: order == '>' && kind == Text}
	case Datetime, Timedelta:
		if size != 8 {
			return d, "it has 8 bytes"
		}
		d = DType{kind: kind, size: 8, big: order == '>', more: &detail{scale: 1}}
		if len(rest) > len(digits) {
			if d.more.unit, d.more.scale, err = parseUnit(unit); err != nil {
				return d, err.Error()
			}
		}
	default:
		for _, t := range scalarTypes {
			if t.kind == kind && uint64(t.size) == size {
				d = DType{kind: kind, size: t.size, big: order == '>' && size > 1}
			}
		}
		if d.kind == 0 {
			return d, "there is no such type"
		}
	}
	if order == '|' && d.HasByteOrder() && d.size > 0 {
		return d, "the byte order is missing, write < or >"
	}
	return d, ""
}

// timeUnits are NumPy's, from the largest to the smallest.
var timeUnits = []string{"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"}

// parseUnit reads "25s]", with the closing bracket.
func parseUnit(text string) (unit string, scale int, err error) {
	text, ok := strings.CutSuffix(text, "]")
	name := strings.TrimLeft(text, "0123456789")
	scale = 1
	if digits := text[:len(text)-len(name)]; digits != "" {
		scale, err = strconv.Atoi(digits)
	}
	if name == "generic" && scale == 1 {
		return "", 1, err
	}
	if !ok || err != nil || scale < 1 || scale > math.MaxInt32 || !slices.Contains(timeUnits, name) {
		return "", 0, errors.New("its unit must be one of Y M W D h m s ms us ns ps fs as, with a multiple such as 25s")
	}
	return name, scale, nil
}

// unsupportedKind returns the advice for a kind that NumPy has and ndferry does
// not carry, or "".
func unsupportedKind(kind Kind, digits string) string {
	switch kind {
	case 'O':
		return "object arrays hold Python objects; convert with astype to a fixed type, for example float64"
	case 'T':
		return "StringDType keeps its text outside the array; convert with astype to a fixed length, such as U20"
	case Float, Complex:
		switch string(kind) + digits {
		case "f10", "f12", "f16", "c20", "c24", "c32":
			return "longdouble differs between machines; convert with astype to float64 or complex128"
		}
	}
	return ""
}

// String returns the NumPy type string in canonical form: "<f4", "|u1"; for
// types of ml_dtypes their name; for structures what .npy files say.
func (d DType) String() string {
	switch d.kind {
	case 0:
		return "invalid"
	case Small:
		if d.big {
			return ">" + d.more.name
		}
		return d.more.name
	case Struct:
		if text, ok := d.descr(); ok {
			return text
		}
		return "|V" + strconv.Itoa(int(d.size))
	}
	size := int(d.size)
	if d.kind == Text {
		size /= 4
	}
	s := string([]byte{d.orderByte(), byte(d.kind)}) + strconv.Itoa(size)
	if d.more != nil && d.more.unit != "" {
		s += "[" + d.scaledUnit() + "]"
	}
	return s
}

func (d DType) scaledUnit() string {
	if d.more.scale == 1 {
		return d.more.unit
	}
	return strconv.Itoa(d.more.scale) + d.more.unit
}

func (d DType) orderByte() byte {
	switch {
	case !d.HasByteOrder():
		return '|'
	case d.big:
		return '>'
	}
	return '<'
}

// Name returns NumPy's dtype.name, which has no byte order: "float32".
func (d DType) Name() string {
	switch d.kind {
	case Small:
		return d.more.name
	case Datetime, Timedelta:
		name := "datetime64"
		if d.kind == Timedelta {
			name = "timedelta64"
		}
		if d.more.unit == "" {
			return name
		}
		return name + "[" + d.scaledUnit() + "]"
	case Bytes, Text, Raw, Struct:
		name := map[Kind]string{Bytes: "bytes", Text: "str", Raw: "void", Struct: "void"}[d.kind]
		if d.size == 0 {
			return name
		}
		return name + strconv.Itoa(8*int(d.size))
	}
	for _, t := range scalarTypes {
		if t.kind == d.kind && t.size == d.size {
			return t.name
		}
	}
	return "invalid"
}

// ItemSize returns the bytes of one element.
func (d DType) ItemSize() int { return int(d.size) }

// BigEndian reports whether elements have their most significant byte first;
// false for types without a byte order.
func (d DType) BigEndian() bool { return d.big }

// HasByteOrder reports whether the type has one: false for one-byte types, bytes
// and structures.
func (d DType) HasByteOrder() bool {
	switch d.kind {
	case Bytes, Raw, Struct:
		return false
	case Text:
		return true
	}
	return d.size > 1
}

// Kind returns the family of the type, 0 for the zero value.
func (d DType) Kind() Kind { return d.kind }

// Valid reports whether d is a type, that is, not the zero value.
func (d DType) Valid() bool { return d.kind != 0 }

// Equal reports whether both are the same type in the same byte order, in all
// that NumPy knows of them.
func (d DType) Equal(o DType) bool {
	return d.kind == o.kind && d.size == o.size && d.big == o.big && d.more.equal(o.more)
}

func (a *detail) equal(b *detail) bool {
	if a == nil || b == nil {
		return a == b
	}
	if (a.base == nil) != (b.base == nil) || a.base != nil && !a.base.Equal(*b.base) {
		return false
	}
	return a.name == b.name && a.unit == b.unit && a.scale == b.scale && a.flags == b.flags &&
		slices.Equal(a.shape, b.shape) && slices.EqualFunc(a.fields, b.fields, Field.equal)
}

// quote makes text of unknown origin fit for an error: escaped and short.
func quote(s string) string {
	const most = 40
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
