package array

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// member is one member of a JSON object, its value as it was written.
type member struct {
	name  string
	value jsontext.Value
}

// members splits a JSON object, in the order of the text. The decoder refuses
// duplicate names, invalid UTF-8 and anything that is not RFC 8259, at every
// depth.
func members(raw []byte) ([]member, error) { return membersUpTo(raw, MaxMembers) }

func membersUpTo(raw []byte, limit int) ([]member, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if d.PeekKind() != '{' {
		return nil, errors.New("not a JSON object")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	var out []member
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		if len(out) == limit {
			return nil, fmt.Errorf("more than %d members", limit)
		}
		m := member{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		m.value = value.Clone()
		out = append(out, m)
	}
	return out, closeJSON(d)
}

// elements splits a JSON array of at most limit values.
func elements(raw []byte, limit int) ([]jsontext.Value, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if d.PeekKind() != '[' {
		return nil, errors.New("not a JSON array")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	out := []jsontext.Value{}
	for d.PeekKind() != ']' {
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		if len(out) == limit {
			return nil, fmt.Errorf("%w: more than %d values", ErrLimit, limit)
		}
		out = append(out, value.Clone())
	}
	return out, closeJSON(d)
}

// closeJSON reads the closing bracket and checks that nothing follows it.
func closeJSON(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("text after the end")
		}
		return err
	}
	return nil
}

// jsonString reads a JSON string.
func jsonString(raw jsontext.Value) (string, error) {
	if raw.Kind() != '"' {
		return "", errors.New("not a string")
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	return string(text), err
}

// jsonInts reads a list of integers, written as such (no fraction, no exponent).
func jsonInts(raw jsontext.Value) ([]int, error) {
	values, err := elements(raw, MaxDims)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(values))
	for i, v := range values {
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s is not an integer in range", quote(string(v)))
		}
		out[i] = int(n)
	}
	return out, nil
}

// CheckAttributes reports whether raw can be the user's attributes: one JSON
// object of at most MaxAttributesBytes and MaxAttributesDepth, in valid UTF-8,
// without duplicate names; JSON has no NaN. Numbers are not looked into, so no
// integer is rounded. Errors wrap ErrZarr.
func CheckAttributes(raw []byte) error {
	if len(raw) > MaxAttributesBytes {
		return zarrError("attributes", fmt.Errorf("%w: %d bytes, the most is %d", ErrLimit, len(raw), MaxAttributesBytes))
	}
	if isEmptyAttributes(raw) && raw != nil {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if d.PeekKind() != '{' {
		return zarrError("attributes", errors.New("not a JSON object"))
	}
	for {
		if _, err := d.ReadToken(); err != nil {
			return zarrError("attributes", err)
		}
		if d.StackDepth() > MaxAttributesDepth {
			return zarrError("attributes", fmt.Errorf("%w: nested deeper than %d", ErrLimit, MaxAttributesDepth))
		}
		if d.StackDepth() == 0 {
			break
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return zarrError("attributes", errors.New("text after the end"))
	}
	return nil
}

func zarrError(where string, err error) error {
	return fmt.Errorf("array: %w: %s: %w", ErrZarr, where, err)
}
