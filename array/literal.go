package array

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// The header of a .npy file is a Python literal. This file parses the part of
// that grammar which NumPy writes: strings, integers (with Python 2's L), True,
// False, None, tuples, lists and dicts, up to MaxLiteralDepth deep. Nothing is
// evaluated.

// literal is one parsed value; kind says which other field counts.
type literal struct {
	kind  literalKind
	text  string    // litString
	num   int       // litInt; litBool: 0 or 1
	items []literal // litTuple, litList; litDict: the values
	keys  []string  // litDict, one for each item
}

type literalKind byte

const (
	litNone literalKind = iota
	litBool
	litInt
	litString
	litTuple
	litList
	litDict
)

// parseLiteral parses text, which must be one literal and white space.
func parseLiteral(text string) (literal, error) {
	p := literalParser{text: text}
	v, err := p.value(0)
	if err == nil {
		if p.space(); p.pos < len(p.text) {
			err = errors.New("text after the end")
		}
	}
	if err != nil {
		return literal{}, fmt.Errorf("offset %d: %w", p.pos, err)
	}
	return v, nil
}

type literalParser struct {
	text string
	pos  int
}

func (p *literalParser) space() {
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

// peek returns the next byte that is not white space, 0 at the end.
func (p *literalParser) peek() byte {
	if p.space(); p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// take consumes c when it comes next.
func (p *literalParser) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.pos++
	return true
}

func (p *literalParser) value(depth int) (literal, error) {
	if depth > MaxLiteralDepth {
		return literal{}, fmt.Errorf("nested deeper than %d", MaxLiteralDepth)
	}
	switch c := p.peek(); {
	case c == '{':
		return p.dict(depth)
	case c == '(':
		return p.sequence(depth, litTuple, ')')
	case c == '[':
		return p.sequence(depth, litList, ']')
	case c == '\'' || c == '"':
		text, err := p.str()
		return literal{kind: litString, text: text}, err
	case c >= '0' && c <= '9' || c == '-':
		return p.integer()
	case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
		return p.word()
	case c == 0 && p.pos >= len(p.text):
		return literal{}, errors.New("the text ends early")
	}
	return literal{}, errors.New("not a literal")
}

func (p *literalParser) dict(depth int) (literal, error) {
	d := literal{kind: litDict}
	p.take('{')
	for !p.take('}') {
		if c := p.peek(); c != '\'' && c != '"' {
			return d, errors.New("a dict key must be a string")
		}
		key, err := p.str()
		if err != nil {
			return d, err
		}
		for _, k := range d.keys {
			if k == key {
				return d, fmt.Errorf("key %s twice", quote(key))
			}
		}
		if !p.take(':') {
			return d, errors.New("a colon is missing")
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return d, err
		}
		d.keys, d.items = append(d.keys, key), append(d.items, v)
		if len(d.keys) > MaxDims {
			return d, errors.New("too many keys")
		}
		if !p.take(',') && p.peek() != '}' {
			return d, errors.New("a comma is missing")
		}
	}
	return d, nil
}

// sequence parses a tuple or list. (x) without a comma is x in parentheses.
func (p *literalParser) sequence(depth int, kind literalKind, end byte) (literal, error) {
	s := literal{kind: kind}
	p.pos++
	comma := false
	for !p.take(end) {
		v, err := p.value(depth + 1)
		if err != nil {
			return s, err
		}
		s.items = append(s.items, v)
		if comma = p.take(','); !comma && p.peek() != end {
			return s, errors.New("a comma is missing")
		}
	}
	if kind == litTuple && len(s.items) == 1 && !comma {
		return s.items[0], nil
	}
	return s, nil
}

func (p *literalParser) integer() (literal, error) {
	begin := p.pos
	for p.pos < len(p.text) && (p.text[p.pos] == '-' && p.pos == begin || p.text[p.pos] >= '0' && p.text[p.pos] <= '9') {
		p.pos++
	}
	digits := p.text[begin:p.pos]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return literal{}, fmt.Errorf("integer %s is out of range", quote(digits))
	}
	if p.pos < len(p.text) && p.text[p.pos] == 'L' { // a Python 2 long
		p.pos++
	}
	return literal{kind: litInt, num: int(n)}, nil
}

func (p *literalParser) word() (literal, error) {
	begin := p.pos
	for p.pos < len(p.text) && (p.text[p.pos]|0x20 >= 'a' && p.text[p.pos]|0x20 <= 'z') {
		p.pos++
	}
	switch w := p.text[begin:p.pos]; w {
	case "True":
		return literal{kind: litBool, num: 1}, nil
	case "False":
		return literal{kind: litBool}, nil
	case "None":
		return literal{kind: litNone}, nil
	default:
		p.pos = begin
		return literal{}, fmt.Errorf("unknown word %s", quote(w))
	}
}

// str parses a quoted string with the escapes that Python's repr writes.
func (p *literalParser) str() (string, error) {
	q := p.text[p.pos]
	p.pos++
	var out []byte
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		p.pos++
		switch {
		case c == q:
			return string(out), nil
		case c == '\n':
			return "", errors.New("a string goes over the end of the line")
		case c != '\\':
			out = append(out, c)
			continue
		}
		r, err := p.escape()
		if err != nil {
			return "", err
		}
		out = utf8.AppendRune(out, r)
	}
	return "", errors.New("a string does not end")
}

func (p *literalParser) escape() (rune, error) {
	if p.pos >= len(p.text) {
		return 0, errors.New("a string does not end")
	}
	c := p.text[p.pos]
	p.pos++
	digits := 0
	switch c {
	case '\\', '\'', '"':
		return rune(c), nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	}
	if digits == 0 || p.pos+digits > len(p.text) {
		return 0, errors.New("unknown escape")
	}
	n, err := strconv.ParseUint(p.text[p.pos:p.pos+digits], 16, 32)
	if err != nil || n > utf8.MaxRune || !utf8.ValidRune(rune(n)) {
		return 0, errors.New("unknown escape")
	}
	p.pos += digits
	return rune(n), nil
}
