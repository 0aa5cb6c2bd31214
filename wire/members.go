package wire

import (
	"bytes"
	"reflect"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// memberSet are the members of a message.
type memberSet struct {
	required map[string]bool // by name, whether it must be there; immutable
	missing  int             // how many must
	must     int             // field of must_understand
}

func (m *memberSet) has(name string) bool { _, ok := m.required[name]; return ok }

var memberSets sync.Map // reflect.Type to *memberSet

func membersOf(t reflect.Type) *memberSet {
	if m, ok := memberSets.Load(t); ok {
		return m.(*memberSet)
	}
	m := &memberSet{required: map[string]bool{}}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		m.required[name] = !strings.Contains(options, "omitzero")
		if m.required[name] {
			m.missing++
		}
		if f.Name == "Must" {
			m.must = i
		}
	}
	memberSets.Store(t, m)
	return m
}

// check refuses an object that lacks a member, or has null for one. b was decoded, so it is valid JSON without a member twice: only
// its outermost level is looked at.
func (m *memberSet) check(b []byte) error {
	missing := m.missing
	i := skipSpace(b, 0) + 1
	for {
		if i = skipSpace(b, i); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
		if b[i] == '}' {
			break
		}
		end := skipString(b, i)
		name := b[i+1 : end-1]
		i = skipSpace(b, skipSpace(b, end)+1) // behind the colon
		required, known := m.required[string(name)]
		if !known && bytes.IndexByte(name, '\\') >= 0 {
			text, _ := jsontext.AppendUnquote(nil, b[end-len(name)-2:end])
			required, known = m.required[string(text)]
		}
		if known && b[i] == 'n' {
			return errorf("5", i, CodeProtocol, "message: a member is null")
		}
		if required {
			missing--
		}
		i = skipValue(b, i)
	}
	if missing > 0 {
		return errorf("5", 0, CodeProtocol, "message: %d members are missing", missing)
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r' {
		i++
	}
	return i
}

// skipString returns where the string that begins at i ends.
func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns where the value at i, a member's, ends.
func skipValue(b []byte, i int) int {
	for depth := 0; ; {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
}
