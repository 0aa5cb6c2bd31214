package array

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// npyFile makes a .npy file of any text.
func npyFile(major byte, text string) string {
	head := []byte(npyMagic)
	head = append(head, major, 0)
	if major == 1 {
		head = binary.LittleEndian.AppendUint16(head, uint16(len(text)))
	} else {
		head = binary.LittleEndian.AppendUint32(head, uint32(len(text)))
	}
	return string(head) + text
}

// TestNPYHeader_numpy compares with the headers of testdata/npy_headers.txt,
// which NumPy wrote, both ways.
func TestNPYHeader_numpy(t *testing.T) {
	file, err := os.Open("testdata/npy_headers.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	vectors := 0
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		vectors++
		fields := strings.SplitN(line, " ", 4)
		dtype, err := ParseDType(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		shape := Shape{}
		if fields[1] != "-" {
			for _, f := range strings.Split(fields[1], ",") {
				n, err := strconv.Atoi(f)
				if err != nil {
					t.Fatal(err)
				}
				shape = append(shape, n)
			}
		}
		fortran := fields[2] == "1"
		var text string
		if err := json.Unmarshal([]byte(fields[3]), &text); err != nil {
			t.Fatal(err)
		}
		want := fromLatin1(text)
		if got := AppendNPYHeader([]byte("xyz"), dtype, shape, fortran); string(got) != "xyz"+want {
			t.Errorf("%s %v %v:\ngot  %q\nwant %q", dtype, shape, fortran, got[3:], want)
		}
		if size, err := shape.Bytes(dtype.ItemSize()); err != nil {
			_, err := ParseNPYHeader(strings.NewReader(want))
			if !errors.Is(err, ErrShape) {
				t.Errorf("%v of %d bytes: %v", shape, size, err)
			}
			continue
		}
		body := strings.NewReader(want + "DATA")
		h, err := ParseNPYHeader(iotest.OneByteReader(body))
		if err != nil {
			t.Errorf("%s %v: %v", dtype, shape, err)
			continue
		}
		if !h.DType.Equal(dtype) || !h.Shape.Equal(shape) || h.FortranOrder != fortran ||
			h.DataOffset != int64(len(want)) || h.DataOffset%64 != 0 || body.Len() != 4 {
			t.Errorf("%s %v %v: %+v, %d bytes left", dtype, shape, fortran, h, body.Len())
		}
	}
	if lines.Err() != nil || vectors < 400 {
		t.Fatalf("%d vectors, %v", vectors, lines.Err())
	}
}

func fromLatin1(text string) string {
	var out []byte
	for _, r := range text {
		out = append(out, byte(r))
	}
	return string(out)
}

func TestParseNPYHeader_accepts(t *testing.T) {
	for _, tt := range []struct {
		name, file, dtype, shape string
		fortran                  bool
	}{
		{"version 2", npyFile(2, "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }\n"), "<f8", "(2, 3)", true},
		{"version 3", npyFile(3, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}"), "<f8", "(3,)", false},
		{"NumPy's win64python2.npy", npyMagic + "\x01\x00F\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2L,), }           \n", "<f8", "(2,)", false},
		{"python 2 long", npyFile(1, "{'shape': (10L, 20L), 'fortran_order': False, 'descr': '>i2'}   \n"), ">i2", "(10, 20)", false},
		{"one byte, any order", npyFile(1, `{"descr": "<i1", "fortran_order": False, "shape": ()}`), "|i1", "()", false},
		{"white space", npyFile(1, "\n{ 'descr' :\t'|b1' ,'fortran_order':False,\r\n'shape':(1,2,),}"), "|b1", "(1, 2)", false},
		{"escapes", npyFile(1, `{'de\x73cr': '\u003cf8', 'fortran_order': False, 'shape': ()}`), "<f8", "()", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := ParseNPYHeader(strings.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if h.DType.String() != tt.dtype || h.Shape.String() != tt.shape || h.FortranOrder != tt.fortran {
				t.Errorf("%+v", h)
			}
			if h.Order().IsF() != tt.fortran || h.DataOffset != int64(len(tt.file)) {
				t.Errorf("order %v, offset %d of %d", h.Order(), h.DataOffset, len(tt.file))
			}
		})
	}
}

func TestParseNPYHeader_refuses(t *testing.T) {
	ok := "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"
	with := func(old, new string) string { return npyFile(1, strings.Replace(ok, old, new, 1)) }
	for _, tt := range []struct {
		name, file string
		want       error
		says       string
	}{
		{"nothing", "", ErrNPY, "0 bytes"},
		{"text", "hello, this is text", ErrNPY, "np.save"},
		{"pickle", "\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00", ErrNPY, "pickle"},
		{"npz", "PK\x03\x04aaaaaaaa", ErrNPY, "npz"},
		{"version 4", npyFile(4, ok), ErrNPY, "version 4.0"},
		{"version 0", npyFile(0, ok), ErrNPY, "version 0.0"},
		{"version 1.1", npyMagic + "\x01\x01\x00\x00", ErrNPY, "version 1.1"},
		{"length 4 GiB", npyMagic + "\x02\x00\xff\xff\xff\xff", ErrNPY, "most is 65536"},
		{"length 64 KiB + 1", npyFile(2, strings.Repeat(" ", MaxNPYHeader+1)), ErrNPY, "most is"},
		{"not UTF-8", npyFile(3, strings.Replace(ok, "descr", "d\xffscr", 1)), ErrNPY, "UTF-8"},
		{"object", with("<f8", "|O"), ErrUnsupportedDType, "astype"},
		{"object with size", with("<f8", "|O8"), ErrUnsupportedDType, "object"},
		{"longdouble", with("<f8", "<f16"), ErrUnsupportedDType, "longdouble"},
		{"structured", with("'<f8'", "[('a', '<f8'), ('b', '|O')]"), ErrUnsupportedDType, "Python objects"},
		{"descr a number", with("'<f8'", "8"), ErrNPY, "descr"},
		{"descr None", with("'<f8'", "None"), ErrNPY, "descr"},
		{"order a number", with("False", "0"), ErrNPY, "fortran_order"},
		{"order unknown word", with("False", "false"), ErrNPY, "unknown word"},
		{"shape a list", with("(3,)", "[3]"), ErrNPY, "tuple"},
		{"shape a number", with("(3,)", "(3)"), ErrNPY, "tuple"},
		{"shape of text", with("(3,)", "('3',)"), ErrNPY, "integer"},
		{"shape of bools", with("(3,)", "(True,)"), ErrNPY, "integer"},
		{"shape negative", with("(3,)", "(-3,)"), ErrShape, "negative"},
		{"shape float", with("(3,)", "(3.0,)"), ErrNPY, "comma"},
		{"shape overflows", with("(3,)", "(4294967296, 4294967296)"), ErrShape, "over"},
		{"shape over int64", with("(3,)", "(9223372036854775808,)"), ErrNPY, "range"},
		{"shape overflows with zero", with("(3,)", "(0, 4294967296, 4294967296)"), ErrShape, "over"},
		{"shape of 65 axes", with("(3,)", "("+strings.Repeat("1,", 65)+")"), ErrShape, "65 axes"},
		{"key missing", npyFile(1, "{'descr': '<f8', 'shape': (3,)}"), ErrNPY, "missing"},
		{"key twice", npyFile(1, "{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (3,)}"), ErrNPY, "twice"},
		{"key unknown", with("}", "'x': 1}"), ErrNPY, "unknown key"},
		{"key a number", with("'descr'", "1"), ErrNPY, "key"},
		{"not a dict", npyFile(1, "('<f8', False, (3,))"), ErrNPY, "dict"},
		{"empty text", npyFile(1, ""), ErrNPY, "ends early"},
		{"expression", with("(3,)", "(1+2,)"), ErrNPY, "comma"},
		{"call", with("(3,)", "exec('x')"), ErrNPY, "unknown word"},
		{"no end", npyFile(1, ok[:len(ok)-1]), ErrNPY, "key"},
		{"text after the end", npyFile(1, ok+" {}"), ErrNPY, "after the end"},
		{"deep", with("(3,)", strings.Repeat("(", 1000)), ErrNPY, "deeper"},
		{"bad escape", with("<f8", `\q`), ErrNPY, "escape"},
		{"surrogate", with("<f8", `\ud800`), ErrNPY, "escape"},
		{"open string", with("'<f8'", "'<f8"), ErrNPY, "comma"},
		{"newline in string", with("<f8", "<f8\n"), ErrNPY, "end of the line"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseNPYHeader(strings.NewReader(tt.file))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestParseNPYHeader_truncated(t *testing.T) {
	dtype, _ := ParseDType("<f8")
	whole := AppendNPYHeader(nil, dtype, Shape{3, 4}, false)
	for n := range whole {
		if _, err := ParseNPYHeader(bytes.NewReader(whole[:n])); !errors.Is(err, ErrNPY) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
		broken := errors.New("broken")
		r := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken))
		if _, err := ParseNPYHeader(r); !errors.Is(err, broken) || errors.Is(err, ErrNPY) {
			t.Errorf("%d of %d bytes, then an error: %v", n, len(whole), err)
		}
	}
}

func FuzzNPYHeader(f *testing.F) {
	file, err := os.ReadFile("testdata/npy_headers.txt")
	if err != nil {
		f.Fatal(err)
	}
	for i, line := range strings.Split(string(file), "\n") {
		if fields := strings.SplitN(line, " ", 4); len(fields) == 4 && i%20 == 1 {
			var text string
			if err := json.Unmarshal([]byte(fields[3]), &text); err != nil {
				f.Fatal(err)
			}
			f.Add([]byte(fromLatin1(text)))
		}
	}
	f.Add([]byte(npyFile(1, "{'shape': (10L, 20L), 'fortran_order': False, 'descr': '>i2'}\n")))
	f.Add([]byte(npyFile(2, "{'descr': [('a', '<f4', (2,)), (('t', 'b'), '|O')], 'fortran_order': False, 'shape': (3,), }")))
	f.Add([]byte(npyFile(3, "{'descr': '\\u00e9', 'fortran_order': False, 'shape': (), }")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		h, err := ParseNPYHeader(r)
		if err != nil {
			return
		}
		if h.DataOffset != int64(len(raw)-r.Len()) || h.DataOffset > MaxNPYHeader+12 {
			t.Fatalf("offset %d, %d bytes read", h.DataOffset, len(raw)-r.Len())
		}
		// What was accepted comes back from what we write.
		again, err := ParseNPYHeader(bytes.NewReader(AppendNPYHeader(nil, h.DType, h.Shape, h.FortranOrder)))
		if err != nil || !again.DType.Equal(h.DType) || !again.Shape.Equal(h.Shape) || again.FortranOrder != h.FortranOrder {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}
