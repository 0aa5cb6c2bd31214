package array

import (
	"errors"
	"strings"
	"testing"
)

func TestParseDType(t *testing.T) {
	for _, tt := range []struct {
		in, str, name string
		size          int
		kind          Kind
		big           bool
	}{
		{"|b1", "|b1", "bool", 1, Bool, false},
		{"<b1", "|b1", "bool", 1, Bool, false},
		{"|i1", "|i1", "int8", 1, Int, false},
		{">i1", "|i1", "int8", 1, Int, false},
		{"<i2", "<i2", "int16", 2, Int, false},
		{">i2", ">i2", "int16", 2, Int, true},
		{"<i4", "<i4", "int32", 4, Int, false},
		{">i8", ">i8", "int64", 8, Int, true},
		{"|u1", "|u1", "uint8", 1, Uint, false},
		{"<u2", "<u2", "uint16", 2, Uint, false},
		{">u4", ">u4", "uint32", 4, Uint, true},
		{"<u8", "<u8", "uint64", 8, Uint, false},
		{"<f2", "<f2", "float16", 2, Float, false},
		{">f4", ">f4", "float32", 4, Float, true},
		{"<f8", "<f8", "float64", 8, Float, false},
		{"<c8", "<c8", "complex64", 8, Complex, false},
		{">c16", ">c16", "complex128", 16, Complex, true},
	} {
		d, err := ParseDType(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if d.String() != tt.str || d.Name() != tt.name || d.Name() != tt.name || d.ItemSize() != tt.size ||
			d.Kind() != tt.kind || d.BigEndian() != tt.big || d.HasByteOrder() != (tt.size > 1) || !d.Valid() {
			t.Errorf("%s: %v %s %d %v %v", tt.in, d, d.Name(), d.ItemSize(), d.Kind(), d.BigEndian())
		}
		z, err := parseZarrName(tt.name, tt.big)
		if err != nil || !z.Equal(d) {
			t.Errorf("%s: from Zarr %v, %v", tt.in, z, err)
		}
		if other, _ := parseZarrName(tt.name, !tt.big); other.Equal(d) != (tt.size == 1) {
			t.Errorf("%s: equal to %v", tt.in, other)
		}
	}
}

func TestParseDType_refuses(t *testing.T) {
	for in, says := range map[string]string{
		"":               "not a NumPy type string",
		"<":              "not a NumPy type string",
		"f4":             "byte order",
		"float32":        "byte order",
		"=f4":            "byte order",
		"|f4":            "byte order is missing",
		"|O":             "Python objects",
		"|O8":            "Python objects",
		"|T16":           "StringDType",
		"<f16":           "longdouble",
		"<f12":           "longdouble",
		">c32":           "longdouble",
		"<M8[fortnight]": "its unit",
		"<m8[0s]":        "its unit",
		"<m8[25s":        "its unit",
		"<M4[s]":         "8 bytes",
		"|M8[s]":         "byte order is missing",
		"|S":             "size in bytes",
		"|U4":            "byte order is missing",
		"|V2000000":      "at most",
		"<U4194305":      "at most",
		"|S16777217":     "at most",
		"|V1048577":      "at most",
		"<f":             "size in bytes",
		"<f04":           "size in bytes",
		"<f+4":           "size in bytes",
		"<f-4":           "size in bytes",
		"<f4 ":           "size in bytes",
		"<f3":            "no such type",
		"<b2":            "no such type",
		"<i16":           "no such type",
		"<x4":            "no such type",
		"<i4294967300":   "size in bytes",
		"<i\x00":         "size in bytes",
	} {
		d, err := ParseDType(in)
		if !errors.Is(err, ErrUnsupportedDType) || !strings.Contains(err.Error(), says) || d.Valid() {
			t.Errorf("%q: %v, want %q", in, err, says)
		}
	}
	for _, in := range []string{"", "float128", "Float32", "bfloat", "string", "r12", "r0", "numpy.datetime64", "raw_bytes", "struct", "invalid", "<f4"} {
		if d, err := parseZarrName(in, false); !errors.Is(err, ErrUnsupportedDType) || d.Valid() {
			t.Errorf("zarr %q: %v", in, err)
		}
	}
}

func TestDType_zero(t *testing.T) {
	var d DType
	if d.Valid() || d.String() != "invalid" || d.Name() != "invalid" || d.ItemSize() != 0 {
		t.Errorf("%v %s", d, d.Name())
	}
}

func FuzzParseDType(f *testing.F) {
	for _, s := range []string{"<f4", ">c16", "|b1", "|O", "<M8[ns]", "<U12", "|V8", "<f16", "|T16", "=i8", "<i\x00", "<i08"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		d, err := ParseDType(in)
		if err != nil {
			if !errors.Is(err, ErrUnsupportedDType) || d.Valid() {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		again, err := ParseDType(d.String())
		if err != nil || !again.Equal(d) || again.String() != d.String() {
			t.Fatalf("%q: %v became %v, %v", in, d, again, err)
		}
		stored := d.Stored()
		zarr, err := ParseZarrType(stored.AppendZarrType(nil), stored.BigEndian())
		if err != nil || !zarr.Equal(stored) || d.ItemSize() > 0 && d.Kind() != Complex && !stored.Equal(d) {
			t.Fatalf("%q: through Zarr %v, %v", in, zarr, err)
		}
		numpy, err := ParseNumPy(d.AppendNumPy(nil))
		if err != nil || !numpy.Equal(d) {
			t.Fatalf("%q: through JSON %v, %v", in, numpy, err)
		}
	})
}
