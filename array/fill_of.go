package array

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// FillOf returns the fill_value of an element with these bytes, in the byte
// order of the type. ok is false when JSON cannot say it exactly.
func FillOf(d DType, item []byte) (fill jsontext.Value, ok bool) {
	if len(item) != d.ItemSize() || len(item) == 0 || len(item) > MaxRawSize { // longer as text than a message may be
		return nil, false
	}
	text, ok := d.fillText(item)
	if !ok {
		return nil, false
	}
	back, err := fillBytes(d, jsontext.Value(text))
	return jsontext.Value(text), err == nil && bytes.Equal(back, item)
}

func (d DType) fillText(item []byte) (string, bool) {
	switch d.kind {
	case Bool:
		return strconv.FormatBool(item[0] != 0), item[0] < 2
	case Int, Datetime, Timedelta:
		shift := 64 - 8*len(item)
		return strconv.FormatInt(int64(d.bits(item))<<shift>>shift, 10), true
	case Uint:
		return strconv.FormatUint(d.bits(item), 10), true
	case Float:
		return floatText(d.bits(item), len(item)), true
	case Complex:
		half := len(item) / 2
		return "[" + floatText(d.bits(item[:half]), half) + "," + floatText(d.bits(item[half:]), half) + "]", true
	case Small:
		return `"0x` + hexBits(d.bits(item), len(item)) + `"`, true
	case Bytes:
		return `"` + base64.StdEncoding.EncodeToString(bytes.TrimRight(item, "\x00")) + `"`, true
	case Raw:
		return `"` + base64.StdEncoding.EncodeToString(item) + `"`, true
	case Text:
		var text []byte
		for at := 0; at < len(item); at += 4 {
			r := d.bits(item[at : at+4])
			if r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
				return "", false
			}
			text = utf8.AppendRune(text, rune(r))
		}
		return string(appendQuoted(nil, string(bytes.TrimRight(text, "\x00")))), true
	case Struct:
		text := "{"
		for i, f := range d.more.fields {
			part, ok := f.Type.fillText(item[f.Offset:][:f.Type.ItemSize()])
			if !ok {
				return "", false
			}
			if i > 0 {
				text += ","
			}
			text += string(appendQuoted(nil, f.Name)) + ":" + part
		}
		return text + "}", true
	}
	return "", false
}

// bits returns up to 8 bytes as a number.
func (d DType) bits(item []byte) uint64 {
	var b [8]byte
	if d.big {
		copy(b[8-len(item):], item)
		return binary.BigEndian.Uint64(b[:])
	}
	copy(b[:], item)
	return binary.LittleEndian.Uint64(b[:])
}

func hexBits(bits uint64, size int) string {
	text := strconv.FormatUint(bits, 16)
	return strings.Repeat("0", 2*size-len(text)) + text
}

// floatText writes a float of so many bytes as Zarr does: with the fewest digits
// that read back as its bits, a quiet NaN and the infinities by name, else the bits.
func floatText(bits uint64, size int) string {
	f, width := math.Float64frombits(bits), 64
	switch size {
	case 4:
		f, width = float64(math.Float32frombits(uint32(bits))), 32
	case 2:
		f, width = float16Value(uint16(bits)), 32
	}
	switch {
	case bits == map[int]uint64{2: 0x7e00, 4: 0x7fc00000, 8: 0x7ff8000000000000}[size]:
		return `"NaN"`
	case math.IsNaN(f):
		return `"0x` + hexBits(bits, size) + `"`
	case math.IsInf(f, 1):
		return `"Infinity"`
	case math.IsInf(f, -1):
		return `"-Infinity"`
	}
	text := strconv.FormatFloat(f, 'g', -1, width)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// float16Value is the inverse of float16Bits.
func float16Value(bits uint16) float64 {
	sign, exp, frac := 1.0, int(bits>>10&31), float64(bits&0x3ff)
	if bits&0x8000 != 0 {
		sign = math.Copysign(1, -1)
	}
	switch exp {
	case 0:
		return sign * frac * 0x1p-24
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1+frac/1024, exp-15)
}
