package array

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrUnsupportedDType is wrapped by every refusal of an element type; the text
// around it says what to do instead.
var ErrUnsupportedDType = errors.New("dtype not supported")

// Kind is the family of an element type: NumPy's dtype.kind character.
type Kind byte

// The kinds carried so far. The numbers are NumPy's letters.
const (
	Bool    Kind = 'b'
	Int     Kind = 'i'
	Uint    Kind = 'u'
	Float   Kind = 'f'
	Complex Kind = 'c'
)

// String returns the kind's letter.
func (k Kind) String() string { return string(rune(k)) }

// DType is the type of one element: kind, size and byte order. The zero value
// is no type. Compare with Equal; DType is deliberately not comparable with ==,
// because later kinds carry units and fields.
type DType struct {
	_    [0]func()
	kind Kind
	size int32 // bytes of one element
	big  bool  // most significant byte first; false for one-byte types
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

// ParseDType reads a NumPy type string (dtype.str, the array interface's
// typestr): "<f4", ">i8", "|b1". One-byte types are taken with any of the three
// byte orders and become "|"; the others need "<" or ">".
// Errors wrap ErrUnsupportedDType.
func ParseDType(typestr string) (DType, error) {
	refuse := func(why string) (DType, error) {
		return DType{}, fmt.Errorf("array: dtype %s: %w: %s", quote(typestr), ErrUnsupportedDType, why)
	}
	if len(typestr) < 2 {
		return refuse("not a NumPy type string such as <f4")
	}
	order, kind, digits := typestr[0], Kind(typestr[1]), typestr[2:]
	if order != '<' && order != '>' && order != '|' {
		return refuse("it must begin with its byte order, <, > or |")
	}
	if why := unsupportedKind(kind, digits); why != "" {
		return refuse(why)
	}
	size, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || digits[0] == '0' {
		return refuse("it must end with its size in bytes")
	}
	for _, t := range scalarTypes {
		if t.kind != kind || t.size != int32(size) {
			continue
		}
		if order == '|' && size > 1 {
			return refuse("the byte order is missing, write < or >")
		}
		return DType{kind: kind, size: t.size, big: order == '>' && size > 1}, nil
	}
	return refuse("there is no such type")
}

// unsupportedKind returns the advice for a kind that NumPy has and ndferry does
// not carry, or "".
func unsupportedKind(kind Kind, digits string) string {
	switch kind {
	case 'O':
		return "object arrays hold Python objects; convert with astype to a fixed type, for example float64"
	case 'T':
		return "StringDType keeps its text outside the array; encode it as uint8 with offsets"
	case 'M', 'm':
		return "datetime64 and timedelta64 are not carried yet; send arr.view('i8') and keep the unit in an attribute"
	case 'S', 'a':
		return "fixed bytes are not carried yet; send arr.view('u1')"
	case 'U':
		return "fixed text is not carried yet; send arr.view('u4')"
	case 'V':
		return "raw and structured types are not carried yet; send arr.view('u1') or one field at a time"
	case Float, Complex:
		switch string(kind) + digits {
		case "f10", "f12", "f16", "c20", "c24", "c32":
			return "longdouble differs between machines; convert with astype to float64 or complex128"
		}
	}
	return ""
}

// ParseZarrType reads a Zarr v3 data_type name; the byte order comes from the
// bytes codec and is ignored for one-byte types. Errors wrap ErrUnsupportedDType.
func ParseZarrType(name string, bigEndian bool) (DType, error) {
	for _, t := range scalarTypes {
		if t.name == name {
			return DType{kind: t.kind, size: t.size, big: bigEndian && t.size > 1}, nil
		}
	}
	return DType{}, fmt.Errorf("array: zarr data_type %s: %w: carried are bool, int8 to int64, uint8 to uint64, float16 to float64, complex64 and complex128",
		quote(name), ErrUnsupportedDType)
}

// String returns the NumPy type string in canonical form: "<f4", "|u1".
func (d DType) String() string {
	if d.kind == 0 {
		return "invalid"
	}
	return string([]byte{d.orderByte(), byte(d.kind)}) + strconv.Itoa(int(d.size))
}

func (d DType) orderByte() byte {
	switch {
	case d.size == 1:
		return '|'
	case d.big:
		return '>'
	}
	return '<'
}

// Name returns NumPy's dtype.name, which has no byte order: "float32".
func (d DType) Name() string {
	for _, t := range scalarTypes {
		if t.kind == d.kind && t.size == d.size {
			return t.name
		}
	}
	return "invalid"
}

// ZarrName returns the Zarr v3 data_type.
func (d DType) ZarrName() string { return d.Name() }

// ItemSize returns the bytes of one element.
func (d DType) ItemSize() int { return int(d.size) }

// BigEndian reports whether elements have their most significant byte first;
// false for one-byte types.
func (d DType) BigEndian() bool { return d.big }

// HasByteOrder reports whether the type has one: false for one-byte types.
func (d DType) HasByteOrder() bool { return d.size > 1 }

// Kind returns the family of the type, 0 for the zero value.
func (d DType) Kind() Kind { return d.kind }

// Valid reports whether d is a type, that is, not the zero value.
func (d DType) Valid() bool { return d.kind != 0 }

// Equal reports whether both are the same type in the same byte order.
func (d DType) Equal(o DType) bool {
	return d.kind == o.kind && d.size == o.size && d.big == o.big
}

// quote makes text of unknown origin fit for an error: escaped and short.
func quote(s string) string {
	const most = 40
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
