package array

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Zarr writes a fill_value (core specification, "Fill value") as true or false,
// as an integer, as a number or one of the strings "NaN", "Infinity",
// "-Infinity", "0x..." (the bits, most significant first), or, for complex
// types, as a list of two of these.

// zeroFill returns the fill_value of zero, as zarr-python writes it.
func zeroFill(d DType) string {
	switch d.kind {
	case Bool:
		return "false"
	case Float:
		return "0.0"
	case Complex:
		return "[0.0,0.0]"
	case Bytes, Text:
		return `""`
	case Raw:
		return `"` + base64.StdEncoding.EncodeToString(make([]byte, d.size)) + `"`
	case Small:
		return `"0x` + strings.Repeat("00", int(d.size)) + `"`
	case Struct:
		text := "{"
		for i, f := range d.more.fields {
			if i > 0 {
				text += ","
			}
			text += string(appendQuoted(nil, f.Name)) + ":" + zeroFill(f.Type)
		}
		return text + "}"
	}
	return "0"
}

// FillBytes returns the element that a fill_value stands for, in the byte order
// of the type. Errors wrap ErrZarr.
func FillBytes(d DType, fill jsontext.Value) ([]byte, error) {
	out, err := fillBytes(d, fill)
	if err != nil {
		return nil, zarrError("fill_value", fmt.Errorf("%s for %s: %w", quote(string(fill)), d.Name(), err))
	}
	return out, nil
}

func fillBytes(d DType, fill jsontext.Value) ([]byte, error) {
	size := d.ItemSize()
	switch d.kind {
	case Bool:
		switch string(fill) {
		case "true":
			return []byte{1}, nil
		case "false":
			return []byte{0}, nil
		}
		return nil, errors.New("not true or false")
	case Int:
		n, err := strconv.ParseInt(string(fill), 10, 8*size)
		return d.appendBits(nil, uint64(n), size), err
	case Uint:
		n, err := strconv.ParseUint(string(fill), 10, 8*size)
		return d.appendBits(nil, n, size), err
	case Float:
		bits, err := floatBits(fill, size)
		return d.appendBits(nil, bits, size), err
	case Complex:
		parts, err := elements(fill, 2)
		if err != nil || len(parts) != 2 {
			return nil, errors.New("not a list of two numbers")
		}
		var out []byte
		for _, part := range parts {
			bits, err := floatBits(part, size/2)
			if err != nil {
				return nil, err
			}
			out = d.appendBits(out, bits, size/2)
		}
		return out, nil
	}
	return otherFill(d, fill)
}

// otherFill is fillBytes of the types that are no plain numbers. zarr-python
// writes times as integers or "NaT", bytes, raw bytes and (as "structured")
// structures in base64, text as itself, and structures as objects.
func otherFill(d DType, fill jsontext.Value) ([]byte, error) {
	size := d.ItemSize()
	text, textErr := jsonString(fill)
	switch d.kind {
	case Datetime, Timedelta:
		if textErr == nil && text == "NaT" {
			fill = jsontext.Value(strconv.FormatInt(math.MinInt64, 10))
		}
		n, err := strconv.ParseInt(string(fill), 10, 64)
		return d.appendBits(nil, uint64(n), size), err
	case Small:
		return smallFill(d, fill)
	case Text:
		if textErr != nil {
			return nil, textErr
		}
		var out []byte
		for _, r := range text {
			out = d.appendBits(out, uint64(r), 4)
		}
		return fillUp(out, size)
	case Bytes, Raw, Struct:
		if d.kind == Struct && fill.Kind() == '{' {
			return structFill(d, fill)
		}
		if textErr != nil {
			return nil, textErr
		}
		out, err := base64.StdEncoding.DecodeString(text)
		if err != nil || d.kind != Bytes && len(out) != size {
			return nil, fmt.Errorf("not base64 of %d bytes", size)
		}
		return fillUp(out, size)
	}
	return nil, errors.New("the type has no fill value")
}

func fillUp(p []byte, size int) ([]byte, error) {
	if len(p) > size {
		return nil, fmt.Errorf("%d bytes for %d", len(p), size)
	}
	return append(p, make([]byte, size-len(p))...), nil
}

func structFill(d DType, fill jsontext.Value) ([]byte, error) {
	list, err := membersUpTo(fill, MaxFields)
	if err != nil {
		return nil, err
	}
	values := map[string]jsontext.Value{}
	for _, m := range list {
		values[m.name] = m.value
	}
	out := make([]byte, d.size)
	for _, f := range d.more.fields {
		value, ok := values[f.Name]
		if !ok || len(values) != len(d.more.fields) {
			return nil, fmt.Errorf("the fields are not those of the type: %s", quote(f.Name))
		}
		part, err := fillBytes(f.Type, value)
		if err != nil {
			return nil, err
		}
		copy(out[f.Offset:], part)
	}
	return out, nil
}

// smallFill takes the bits ("0x3f80") of a type of ml_dtypes, and the numbers
// that are the same in all of them: 0 and, of bfloat16, those that it has.
func smallFill(d DType, fill jsontext.Value) ([]byte, error) {
	size := d.ItemSize()
	text, err := jsonString(fill)
	if digits, ok := strings.CutPrefix(text, "0x"); err == nil && ok && len(digits) == 2*size {
		bits, err := strconv.ParseUint(digits, 16, 8*size)
		return d.appendBits(nil, bits, size), err
	}
	if d.more.name == "bfloat16" {
		bits, err := floatBits(fill, 4)
		if err == nil && bits&0xffff != 0 {
			err = errors.New("not a bfloat16")
		}
		return d.appendBits(nil, bits>>16, size), err
	}
	if f, err := strconv.ParseFloat(string(fill), 64); err == nil && f == 0 && !math.Signbit(f) && d.more.name != "float8_e8m0fnu" {
		return make([]byte, size), nil
	}
	return nil, errors.New(`not the bits of a value, such as "0x3c"`)
}

// appendBits appends the low size bytes of bits in the type's byte order.
func (d DType) appendBits(dst []byte, bits uint64, size int) []byte {
	var b [8]byte
	if d.big {
		binary.BigEndian.PutUint64(b[:], bits)
		return append(dst, b[8-size:]...)
	}
	binary.LittleEndian.PutUint64(b[:], bits)
	return append(dst, b[:size]...)
}

// floatBits returns the bits of a float of size bytes.
func floatBits(raw jsontext.Value, size int) (uint64, error) {
	var f float64
	switch raw.Kind() {
	case '0':
		var err error
		if f, err = strconv.ParseFloat(string(raw), 64); err != nil {
			return 0, errors.New("out of range")
		}
	case '"':
		text, err := jsonString(raw)
		if err != nil {
			return 0, err
		}
		switch text {
		case "NaN":
			f = math.NaN()
		case "Infinity":
			f = math.Inf(1)
		case "-Infinity":
			f = math.Inf(-1)
		default:
			if len(text) != 2+2*size || text[:2] != "0x" {
				return 0, errors.New("not a float")
			}
			return strconv.ParseUint(text[2:], 16, 8*size)
		}
	default:
		return 0, errors.New("not a float")
	}
	switch {
	case math.IsNaN(f): // Zarr's NaN: quiet, sign and payload zero
		return map[int]uint64{2: 0x7e00, 4: 0x7fc00000, 8: 0x7ff8000000000000}[size], nil
	case size == 8:
		return math.Float64bits(f), nil
	case size == 4:
		return uint64(math.Float32bits(float32(f))), nil
	}
	return uint64(float16Bits(f)), nil
}

// float16Bits rounds to IEEE 754 binary16, ties to even.
func float16Bits(f float64) uint16 {
	sign := uint16(math.Float64bits(f) >> 48 & 0x8000)
	f = math.Abs(f)
	switch {
	case f >= 65520: // half a step above the greatest float16, and infinity
		return sign | 0x7c00
	case f < 0x1p-14: // subnormal: steps of 2^-24; 1024 of them are the first normal
		return sign | uint16(math.RoundToEven(f*0x1p24))
	}
	frac, exp := math.Frexp(f)             // f = frac * 2^exp, 0.5 <= frac < 1
	steps := math.RoundToEven(frac * 2048) // 1024 to 2048; 2048 carries into the exponent
	return sign | uint16((exp+13)<<10+int(steps))
}
