package array

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

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
	return nil, errors.New("the type has no fill value")
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
