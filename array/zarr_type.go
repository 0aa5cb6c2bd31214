package array

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Zarr's data_type is a name, or a name with a configuration. What other types
// are called than the plain numbers is settled in zarr-extensions and by what
// zarr-python writes:
//
//	numpy.datetime64       {"unit": "s", "scale_factor": 25}
//	numpy.timedelta64      the same
//	null_terminated_bytes  {"length_bytes": 5}
//	fixed_length_utf32     {"length_bytes": 12}
//	raw_bytes              {"length_bytes": 7}, and r56 of the core specification
//	struct                 {"fields": [{"name": "a", "data_type": "int32"}, ...]}
//	structured             {"fields": [["a", "int32"], ...]}, an older form
//	bfloat16, float8_...

// AppendZarrType appends the data_type of a stored type.
func (d DType) AppendZarrType(dst []byte) []byte {
	length := func(name string) []byte {
		dst = append(dst, `{"name":"`+name+`","configuration":{"length_bytes":`...)
		return append(strconv.AppendInt(dst, int64(d.size), 10), `}}`...)
	}
	switch d.kind {
	case Datetime, Timedelta:
		name, unit := "numpy.datetime64", d.more.unit
		if d.kind == Timedelta {
			name = "numpy.timedelta64"
		}
		if unit == "" {
			unit = "generic"
		}
		return fmt.Appendf(dst, `{"name":%q,"configuration":{"unit":%q,"scale_factor":%d}}`, name, unit, d.more.scale)
	case Bytes:
		return length("null_terminated_bytes")
	case Text:
		return length("fixed_length_utf32")
	case Raw:
		return length("raw_bytes")
	case Struct:
		dst = append(dst, `{"name":"struct","configuration":{"fields":[`...)
		for i, f := range d.more.fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"name":`...)
			dst = appendQuoted(dst, f.Name)
			dst = append(dst, `,"data_type":`...)
			dst = append(f.Type.AppendZarrType(dst), '}')
		}
		return append(dst, `]}}`...)
	}
	return append(append(append(dst, '"'), d.Name()...), '"')
}

// zarrEndian is what the bytes codec says, "" when it says nothing.
func (d DType) zarrEndian() string {
	switch {
	case d.big:
		return "big"
	case d.HasByteOrder(), d.kind == Struct:
		return "little"
	}
	return ""
}

// ParseZarrType reads a Zarr v3 data_type; the byte order comes from the
// bytes codec and is ignored for types without one. Errors wrap
// ErrUnsupportedDType.
func ParseZarrType(raw jsontext.Value, bigEndian bool) (DType, error) {
	d, err := parseZarrType(raw, 0)
	if err != nil {
		if errors.Is(err, ErrUnsupportedDType) {
			return d, err
		}
		return DType{}, fmt.Errorf("array: zarr data_type %s: %w: %w", quote(string(raw)), ErrUnsupportedDType, err)
	}
	return d.withOrder(bigEndian), nil
}

func parseZarrType(raw jsontext.Value, depth int) (DType, error) {
	if depth > MaxTypeDepth {
		return DType{}, errors.New("nested too deep")
	}
	e, err := parseExtension(raw)
	if err != nil {
		return DType{}, err
	}
	for _, t := range scalarTypes {
		if t.name == e.name {
			return DType{kind: t.kind, size: t.size}, e.bare()
		}
	}
	if size, ok := smallTypes[e.name]; ok {
		return DType{kind: Small, size: size, more: &detail{name: e.name}}, e.bare()
	}
	if digits, ok := strings.CutPrefix(e.name, "r"); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
		bits, err := strconv.Atoi(digits)
		if err != nil || bits%8 != 0 || bits < 8 || bits > 8*MaxRawSize {
			return DType{}, errors.New("not a multiple of 8 bits in range")
		}
		return DType{kind: Raw, size: int32(bits / 8)}, e.bare()
	}
	switch e.name {
	case "numpy.datetime64":
		return e.timeType(Datetime)
	case "numpy.timedelta64":
		return e.timeType(Timedelta)
	case "null_terminated_bytes":
		return e.lengthType(Bytes, 1)
	case "fixed_length_utf32":
		return e.lengthType(Text, 4)
	case "raw_bytes":
		return e.lengthType(Raw, 1)
	case "struct", "structured":
		return e.structType(depth)
	}
	return DType{}, errors.New("it is not carried; numbers, times, fixed-length strings, raw bytes and structures of them are")
}

// bare refuses a configuration of a type that has none.
func (e extension) bare() error {
	if len(e.config) > 0 {
		return errors.New("a configuration of a type that has none")
	}
	return nil
}

func (e extension) timeType(kind Kind) (DType, error) {
	d := DType{kind: kind, size: 8, more: &detail{scale: 1}}
	unit := ""
	for _, m := range e.config {
		var err error
		switch m.name {
		case "unit":
			unit, err = jsonString(m.value)
		case "scale_factor":
			d.more.scale, err = strconv.Atoi(string(m.value))
		default:
			err = fmt.Errorf("unknown member %s", quote(m.name))
		}
		if err != nil {
			return d, err
		}
	}
	if unit == "μs" || unit == "µs" {
		unit = "us"
	}
	if d.more.unit = unit; unit == "generic" {
		d.more.unit, d.more.scale = "", 1
	} else if !slices.Contains(timeUnits, unit) || d.more.scale < 1 || d.more.scale > math.MaxInt32 {
		return d, errors.New("unit or scale_factor is out of range")
	}
	return d, nil
}

func (e extension) lengthType(kind Kind, per int) (DType, error) {
	if len(e.config) != 1 || e.config[0].name != "length_bytes" {
		return DType{}, errors.New("length_bytes is missing")
	}
	most := MaxItemSize
	if kind == Raw {
		most = MaxRawSize
	}
	n, err := strconv.Atoi(string(e.config[0].value))
	if err != nil || n < 1 || n > most || n%per != 0 {
		return DType{}, errors.New("length_bytes is out of range")
	}
	return DType{kind: kind, size: int32(n)}, nil
}

func (e extension) structType(depth int) (DType, error) {
	if len(e.config) != 1 || e.config[0].name != "fields" {
		return DType{}, errors.New("fields is missing")
	}
	list, err := elements(e.config[0].value, MaxFields)
	if err != nil {
		return DType{}, err
	}
	fields := make([]Field, len(list))
	at := 0
	for i, raw := range list {
		name, format, err := zarrField(raw)
		if err != nil {
			return DType{}, err
		}
		t, err := parseZarrType(format, depth+1)
		if err != nil {
			return DType{}, err
		}
		fields[i] = Field{Name: name, Type: t, Offset: at}
		if at += t.ItemSize(); at > MaxItemSize {
			return DType{}, errors.New("an element has too many bytes")
		}
	}
	if at == 0 {
		return DType{}, errors.New("a struct without bytes")
	}
	return newStruct(fields, at, structFlags{})
}

func zarrField(raw jsontext.Value) (name string, format jsontext.Value, err error) {
	if raw.Kind() == '[' {
		pair, err := elements(raw, 2)
		if err != nil || len(pair) != 2 {
			return "", nil, errors.New("a field is not a pair of name and data_type")
		}
		name, err = jsonString(pair[0])
		return name, pair[1], err
	}
	list, err := members(raw)
	if err != nil {
		return "", nil, err
	}
	var named, typed bool
	for _, m := range list {
		switch m.name {
		case "name":
			name, err = jsonString(m.value)
			named = true
		case "data_type":
			format, typed = m.value, true
		default:
			err = fmt.Errorf("unknown member %s of a field", quote(m.name))
		}
		if err != nil {
			return "", nil, err
		}
	}
	if !named || !typed {
		return "", nil, errors.New("name or data_type of a field is missing")
	}
	return name, format, nil
}
