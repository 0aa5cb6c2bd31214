package array

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The .npy format (numpy/lib/format.py, "NEP 1"), versions 1, 2 and 3:
//
//	6 bytes   \x93NUMPY
//	2 bytes   major and minor version: 1.0, 2.0 or 3.0
//	2 bytes   length of the header text, little-endian (4 bytes in 2.0 and 3.0)
//	n bytes   a Python dict literal: descr, fortran_order, shape; then spaces and
//	          a newline, so that the data begins at a multiple of 64
//	rest      the elements, in C or Fortran order
//
// The text is Latin-1 in 1.0 and 2.0, UTF-8 in 3.0.
const (
	npyMagic = "\x93NUMPY"
	npyAlign = 64

	// npyGrowth is the width that NumPy leaves for the axis that grows when a
	// file is appended to: it fills up to that many digits with spaces.
	npyGrowth = 21
)

// ErrNPY is wrapped by every refusal of a .npy header, other than those that
// wrap ErrUnsupportedDType or ErrShape. A header that ends early also wraps
// io.ErrUnexpectedEOF.
var ErrNPY = errors.New("bad .npy header")

// NPYHeader is what a .npy file says about its array.
type NPYHeader struct {
	DType        DType
	Shape        Shape
	FortranOrder bool
	DataOffset   int64 // bytes from the beginning of the file to the elements
}

// Order returns the memory order of the elements.
func (h NPYHeader) Order() Order {
	if h.FortranOrder {
		return FOrder(len(h.Shape))
	}
	return nil
}

// ParseNPYHeader reads the header of a .npy file and leaves r at the first
// element; it reads no byte more than the header. The shape, and its number of
// bytes, are within the limits. Errors wrap ErrNPY, ErrUnsupportedDType,
// ErrShape or the error of r.
func ParseNPYHeader(r io.Reader) (NPYHeader, error) {
	major, text, offset, err := readNPYText(r)
	if err != nil {
		return NPYHeader{}, err
	}
	if major < 3 {
		text = latin1(text)
	} else if !utf8.Valid(text) {
		return NPYHeader{}, npyError("the text is not UTF-8")
	}
	dict, err := parseLiteral(string(text))
	if err != nil {
		return NPYHeader{}, npyError(err.Error())
	}
	h, err := npyFromDict(dict)
	if err != nil {
		return NPYHeader{}, err
	}
	h.DataOffset = offset
	return h, nil
}

// readNPYText reads version, length and text.
func readNPYText(r io.Reader) (major byte, text []byte, offset int64, err error) {
	var head [12]byte
	if n, err := io.ReadFull(r, head[:8]); err != nil {
		if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return 0, nil, 0, npyShort(n)
		}
		return 0, nil, 0, fmt.Errorf("array: npy header: %w", err)
	}
	if why := npyMagicAdvice(head[:8]); why != "" {
		return 0, nil, 0, npyError(why)
	}
	major = head[6]
	if major < 1 || major > 3 || head[7] != 0 {
		return 0, nil, 0, npyError(fmt.Sprintf("version %d.%d, known are 1.0, 2.0 and 3.0", major, head[7]))
	}
	prefix := 10
	if major > 1 {
		prefix = 12
	}
	if n, err := io.ReadFull(r, head[8:prefix]); err != nil {
		return 0, nil, 0, npyRead(8+n, err)
	}
	size := uint32(binary.LittleEndian.Uint16(head[8:]))
	if major > 1 {
		size = binary.LittleEndian.Uint32(head[8:])
	}
	if size > MaxNPYHeader {
		return 0, nil, 0, npyError(fmt.Sprintf("the text has %d bytes, the most is %d", size, MaxNPYHeader))
	}
	text = make([]byte, size)
	if n, err := io.ReadFull(r, text); err != nil {
		return 0, nil, 0, npyRead(prefix+n, err)
	}
	return major, text, int64(prefix) + int64(size), nil
}

// npyMagicAdvice returns why the first 8 bytes are not those of a .npy file.
func npyMagicAdvice(head []byte) string {
	switch text := string(head); {
	case strings.HasPrefix(text, npyMagic):
		return ""
	case strings.HasPrefix(text, "PK\x03\x04"), strings.HasPrefix(text, "PK\x05\x06"):
		return "this is a zip file, probably .npz; load it with NumPy and save each array with np.save"
	case head[0] == 0x80 && head[1] >= 2 && head[1] <= 5:
		return "this is a pickle, which is never loaded; save the array with np.save"
	}
	return "the file does not begin with \\x93NUMPY; save the array with np.save"
}

func npyFromDict(dict literal) (NPYHeader, error) {
	var h NPYHeader
	if dict.kind != litDict {
		return h, npyError("the text is not a dict")
	}
	var seen int
	for i, key := range dict.keys {
		v := dict.items[i]
		var err error
		switch key {
		case "descr":
			h.DType, err = npyDType(v)
		case "fortran_order":
			if v.kind != litBool {
				err = npyError("fortran_order is not True or False")
			}
			h.FortranOrder = v.num == 1
		case "shape":
			h.Shape, err = npyShape(v)
		default:
			err = npyError("unknown key " + quote(key))
		}
		if err != nil {
			return h, err
		}
		seen++
	}
	if seen != 3 {
		return h, npyError("descr, fortran_order or shape is missing")
	}
	if _, err := h.Shape.Bytes(h.DType.ItemSize()); err != nil {
		return h, err
	}
	return h, nil
}

func npyShape(v literal) (Shape, error) {
	if v.kind != litTuple {
		return nil, npyError("shape is not a tuple")
	}
	if len(v.items) > MaxDims {
		return nil, fmt.Errorf("array: npy shape of %d axes: %w: the most is %d", len(v.items), ErrShape, MaxDims)
	}
	shape := make(Shape, len(v.items))
	for i, item := range v.items {
		if item.kind != litInt {
			return nil, npyError("shape has something that is not an integer")
		}
		shape[i] = item.num
	}
	return shape, nil
}

// AppendNPYHeader appends the header of a .npy file, byte for byte the one that
// np.save of NumPy 2 writes. After it come the elements, in Fortran order when
// fortran, else in C order; NumPy writes False when both hold. dtype and shape
// must be valid; see DType.NPYType for those that a .npy file cannot name.
func AppendNPYHeader(dst []byte, dtype DType, shape Shape, fortran bool) []byte {
	npy, _ := dtype.NPYType()
	text := "{'descr': "
	if descr, ok := npy.descr(); ok {
		text += descr
	}
	text += ", 'fortran_order': False, 'shape': "
	if fortran {
		text = strings.TrimSuffix(text, "False, 'shape': ") + "True, 'shape': "
	}
	text += shape.String() + ", }"
	if len(shape) > 0 {
		grows := shape[0]
		if fortran {
			grows = shape[len(shape)-1]
		}
		text += strings.Repeat(" ", max(0, npyGrowth-len(strconv.Itoa(grows))))
	}
	version, body := byte(1), []byte(text)
	if narrow, ok := toLatin1(text); ok {
		body = narrow
	} else {
		version = 3
	}
	if version == 1 && len(body)+npyAlign > math.MaxUint16 {
		version = 2
	}
	prefix := 10
	if version > 1 {
		prefix = 12
	}
	// Like NumPy, a header that would fit exactly gets 64 more.
	body = appendSpaces(body, npyAlign-(prefix+len(body)+1)%npyAlign)
	body = append(body, '\n')
	dst = append(dst, npyMagic...)
	dst = append(dst, version, 0)
	if version == 1 {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(body)))
	} else {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	}
	return append(dst, body...)
}

func toLatin1(text string) ([]byte, bool) {
	out := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xff {
			return nil, false
		}
		out = append(out, byte(r))
	}
	return out, true
}

func appendSpaces(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, ' ')
	}
	return dst
}

func latin1(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, c := range text {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

func npyError(why string) error { return fmt.Errorf("array: %w: %s", ErrNPY, why) }

func npyShort(n int) error {
	return fmt.Errorf("array: %w: it ends after %d bytes: %w", ErrNPY, n, io.ErrUnexpectedEOF)
}

// npyRead wraps the error of a read that stopped n bytes into the file.
func npyRead(n int, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return npyShort(n)
	}
	return fmt.Errorf("array: npy header: %w", err)
}
