package wire

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Encode is the JSON of a message. It panics on a type that is none: messages are this package's own.
func Encode(m any) []byte { return AppendMessage(make([]byte, 0, 512), m) }

// AppendMessage appends what Encode returns. Values that m has as text are not looked into: they are JSON already.
func AppendMessage(dst []byte, m any) []byte {
	switch m := m.(type) { // what every transfer sends is not left to reflection
	case PutMessage:
		return m.append(dst)
	case GetMessage:
		return m.append(dst)
	case ReceiptMessage:
		return m.append(dst)
	case MetaMessage:
		return m.append(dst)
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic("wire: encode: " + err.Error())
	}
	return append(dst, b...)
}

// EncodeFrame is a frame whose payload is the JSON of m; nil stands for none.
func EncodeFrame(h Header, m any) []byte {
	if m == nil {
		return AppendFrame(nil, h, nil)
	}
	room := 1 << 10 // a META of an array of a few axes
	if _, ok := m.(ReceiptMessage); ok {
		room = 512
	}
	b := AppendMessage(make([]byte, HeaderSize, room), m)
	payload := b[HeaderSize:]
	checkPayload(h.Kind, len(payload))
	h.Length = uint32(len(payload))
	AppendHeader(b[:0], h)
	return AppendTrailer(b, Checksum(payload), Whole)
}

// object writes the members of a JSON object one after the other.
type object []byte

func begin(dst []byte) object { return append(dst, '{') }

func (o object) end() []byte { return append(o, '}') }

func (o object) member(name string) object {
	if o[len(o)-1] != '{' {
		o = append(o, ',')
	}
	o = append(o, '"')
	o = append(o, name...)
	return append(o, '"', ':')
}

func (o object) text(name, value string) object { return quote(o.member(name), value) }

func quote(dst []byte, text string) []byte {
	if plain(text) {
		return append(append(append(dst, '"'), text...), '"')
	}
	dst, err := jsontext.AppendQuote(dst, text)
	if err != nil {
		panic("wire: encode: " + err.Error())
	}
	return dst
}

// plain tells that text is in JSON what it is between quotation marks.
func plain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// some is text, unless it is empty.
func (o object) some(name, value string) object {
	if value == "" {
		return o
	}
	return o.text(name, value)
}

func (o object) hex(name string, value []byte) object {
	return append(hex.AppendEncode(append(o.member(name), '"'), value), '"')
}

func (o object) number(name string, n int64) object { return strconv.AppendInt(o.member(name), n, 10) }

// value is JSON as it is, unless it is nil.
func (o object) value(name string, text jsontext.Value) object {
	if text == nil {
		return o
	}
	return append(o.member(name), text...)
}

func (o object) yes(name string, set bool) object {
	if !set {
		return o
	}
	return append(o.member(name), "true"...)
}

// list is a list of texts, unless it is nil.
func (o object) list(name string, texts []string) object {
	if texts == nil {
		return o
	}
	o = append(o.member(name), '[')
	for i, text := range texts {
		if i > 0 {
			o = append(o, ',')
		}
		o = quote(o, text)
	}
	return append(o, ']')
}

func (o object) time(name string, t time.Time) object {
	return append(t.AppendFormat(append(o.member(name), '"'), time.RFC3339Nano), '"')
}

func (o object) digest(d Digest) object {
	inner := begin(o.member("digest")).text("kind", d.Kind)
	if d.Root != nil {
		inner = inner.hex("root", d.Root[:])
	}
	return inner.end()
}

func (m *PutMessage) append(dst []byte) []byte {
	o := begin(dst).text("name", m.Name).hex("id", m.ID[:]).value("array", m.Array).value("numpy", m.NumPy)
	if m.Attributes != nil {
		o = o.text("attributes", *m.Attributes)
	}
	o = o.some("digest", m.Digest).some("codec_why", m.CodecWhy)
	o = o.yes("if_absent", m.IfAbsent).yes("resume", m.Resume).yes("sparse", m.Sparse).yes("join", m.Join)
	return o.some("durability", m.Durability).list("must_understand", m.Must).end()
}

func (m *GetMessage) append(dst []byte) []byte {
	o := begin(dst).text("name", m.Name)
	if m.Cells != nil {
		o = append(o.member("cells"), '[')
		for i, c := range m.Cells {
			if i > 0 {
				o = append(o, ',')
			}
			o = strconv.AppendUint(append(o, '['), c[0], 10)
			o = append(strconv.AppendUint(append(o, ','), c[1], 10), ']')
		}
		o = append(o, ']')
	}
	return o.list("takes", m.Takes).list("must_understand", m.Must).end()
}

func (m *ReceiptMessage) append(dst []byte) []byte {
	o := begin(dst).text("name", m.Name).hex("id", m.ID[:])
	o = o.number("nbytes", m.Bytes).number("stored_bytes", m.StoredBytes).number("cells", int64(m.Cells))
	o = o.text("codec", m.Codec).some("codec_why", m.CodecWhy).some("validated", m.Validated).digest(m.Digest)
	return o.text("durability", m.Durability).time("created", m.Created).list("must_understand", m.Must).end()
}

func (m *MetaMessage) append(dst []byte) []byte {
	o := begin(dst).text("name", m.Name).hex("id", m.ID[:]).value("array", m.Array).value("numpy", m.NumPy).text("attributes", m.Attributes)
	o = o.number("nbytes", m.Bytes).number("stored_bytes", m.StoredBytes).number("cells", int64(m.Cells))
	o = o.text("codec", m.Codec).some("codec_why", m.CodecWhy).some("validated", m.Validated).digest(m.Digest)
	return o.text("durability", m.Durability).time("created", m.Created).list("must_understand", m.Must).end()
}
