package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// HelloMessage opens a connection, spec/WIRE.md §2.
type HelloMessage struct {
	Versions [2]int   `json:"versions"`
	Software string   `json:"software"`
	Features []string `json:"features"`
	Codecs   []string `json:"codecs"`
	Digests  []string `json:"digests"`
	Credit   uint64   `json:"credit"`
	Must     []string `json:"must_understand,omitzero"`
}

// PutMessage asks to store an array, §5.1.
type PutMessage struct {
	Name       string         `json:"name"`
	ID         ID             `json:"id"`
	Array      jsontext.Value `json:"array"`
	NumPy      jsontext.Value `json:"numpy,omitzero"`
	Attributes *string        `json:"attributes,omitzero"` // nil: none
	Digest     string         `json:"digest,omitzero"`
	CodecWhy   string         `json:"codec_why,omitzero"`
	IfAbsent   bool           `json:"if_absent,omitzero"`
	Resume     bool           `json:"resume,omitzero"`
	Sparse     bool           `json:"sparse,omitzero"`     // ALIAS and FILL may come
	Join       bool           `json:"join,omitzero"`       // cells of an upload that another connection has open, §5.1.1
	Durability string         `json:"durability,omitzero"` // "durable" (default) or "relaxed"
	Must       []string       `json:"must_understand,omitzero"`
}

// FinishMessage is the payload of a FINISH with digest sha256.
type FinishMessage struct {
	Root Root     `json:"root"`
	Must []string `json:"must_understand,omitzero"`
}

// GetMessage asks for cells of an array, §5.2. Nil cells means all.
type GetMessage struct {
	Name  string      `json:"name"`
	Cells [][2]uint64 `json:"cells,omitzero"`
	Takes []string    `json:"takes,omitzero"` // features for cells that are not sent
	Must  []string    `json:"must_understand,omitzero"`
}

// NameMessage is the payload of STAT, DELETE and VERIFY.
type NameMessage struct {
	Name string   `json:"name"`
	Must []string `json:"must_understand,omitzero"`
}

// ListMessage asks for names, §5.3.
type ListMessage struct {
	Prefix string   `json:"prefix,omitzero"`
	After  string   `json:"after,omitzero"`
	Limit  int      `json:"limit,omitzero"`
	Must   []string `json:"must_understand,omitzero"`
}

// AcceptMessage says which cells of a resumed PUT are durable.
type AcceptMessage struct {
	Durable [][2]uint64 `json:"durable"`
	Must    []string    `json:"must_understand,omitzero"`
}

// Digest says how an array is checked beyond the CRC32C of its cells.
type Digest struct {
	Kind string `json:"kind"`
	Root *Root  `json:"root,omitzero"`
}

// ReceiptMessage says what was committed, §5.1.
type ReceiptMessage struct {
	Name        string    `json:"name"`
	ID          ID        `json:"id"`
	Bytes       int64     `json:"nbytes"`
	StoredBytes int64     `json:"stored_bytes"`
	Cells       int       `json:"cells"`
	Codec       string    `json:"codec"`
	CodecWhy    string    `json:"codec_why,omitzero"`
	Validated   string    `json:"validated,omitzero"` // ValidatedHeader, or empty: every cell was decoded
	Digest      Digest    `json:"digest"`
	Durability  string    `json:"durability"`
	Created     time.Time `json:"created"`
	Must        []string  `json:"must_understand,omitzero"`
}

// MetaMessage describes a stored array, §5.2.
type MetaMessage struct {
	Name        string         `json:"name"`
	ID          ID             `json:"id"`
	Array       jsontext.Value `json:"array"`
	NumPy       jsontext.Value `json:"numpy,omitzero"`
	Attributes  string         `json:"attributes"`
	Bytes       int64          `json:"nbytes"`
	StoredBytes int64          `json:"stored_bytes"`
	Cells       int            `json:"cells"`
	Codec       string         `json:"codec"`
	CodecWhy    string         `json:"codec_why,omitzero"`
	Validated   string         `json:"validated,omitzero"`
	Digest      Digest         `json:"digest"`
	Durability  string         `json:"durability"`
	Created     time.Time      `json:"created"`
	Must        []string       `json:"must_understand,omitzero"`
}

// Entry is one array of a list.
type Entry struct {
	Name        string    `json:"name"`
	DType       string    `json:"dtype"`
	Shape       []int     `json:"shape"`
	Bytes       int64     `json:"nbytes"`
	StoredBytes int64     `json:"stored_bytes"`
	Created     time.Time `json:"created"`
	Digest      string    `json:"digest,omitzero"`
}

// EntriesMessage is a page of a list, §5.3.
type EntriesMessage struct {
	Entries []Entry  `json:"entries"`
	More    bool     `json:"more"`
	Must    []string `json:"must_understand,omitzero"`
}

// BadItem is one thing that VERIFY found wrong. Cell is nil when it concerns no single cell.
type BadItem struct {
	File    string `json:"file"`
	Cell    *int   `json:"cell"`
	Problem string `json:"problem"`
}

// ReportMessage is the progress and the result of VERIFY, §5.4.
type ReportMessage struct {
	CellsDone int       `json:"cells_done"`
	Cells     int       `json:"cells"`
	BytesDone int64     `json:"bytes_done"`
	Bad       []BadItem `json:"bad"`
	BadCount  int       `json:"bad_count"`
	Must      []string  `json:"must_understand,omitzero"`
}

// ID is a transfer id, 32 lower-case hex digits in JSON.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is the hex form.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText accepts 32 hex digits.
func (id *ID) UnmarshalText(b []byte) error { return unhex(id[:], b, "id") }

// Root is the root of a sha256 digest, 64 lower-case hex digits in JSON.
type Root [32]byte

func (r Root) String() string { return hex.EncodeToString(r[:]) }

// MarshalText is the hex form.
func (r Root) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, r[:]), nil }

// UnmarshalText accepts 64 hex digits.
func (r *Root) UnmarshalText(b []byte) error { return unhex(r[:], b, "root") }

func unhex(dst, src []byte, what string) error {
	if len(src) != 2*len(dst) {
		return errorf("5", 0, CodeInvalid, "%s: %d hex digits, want %d", what, len(src), 2*len(dst))
	}
	if _, err := hex.Decode(dst, src); err != nil {
		return errorf("5", 0, CodeInvalid, "%s: %w", what, err)
	}
	return nil
}

// Decode reads the JSON object b into the message m, strictly (§7): duplicate members, invalid UTF-8, too much depth, a member that is
// missing or null and a must_understand that m does not know are errors with the code to answer them with. Values that m keeps as text are
// copied.
func Decode(b []byte, m any) error {
	if err := checkDepth(b); err != nil {
		return err
	}
	if err := json.Unmarshal(b, m); err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return e
		}
		return errorf("7", 0, CodeProtocol, "message: %w", err)
	}
	v := reflect.ValueOf(m).Elem()
	members := membersOf(v.Type())
	must := v.Field(members.must)
	for i := range must.Len() {
		if name := must.Index(i).String(); !members.has(name) {
			return errorf("7", 0, CodeUnsupported, "message: the member %q must be understood and is not; this side is too old", cut(name, 100))
		}
	}
	return members.check(b)
}

// checkDepth refuses JSON nested deeper than MaxDepth, and what is no object, before a parser sees it.
func checkDepth(b []byte) error {
	if text := bytes.TrimLeft(b, " \t\r\n"); len(text) == 0 || text[0] != '{' {
		return errorf("7", 0, CodeProtocol, "message: not a JSON object")
	}
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return errorf("7", i, CodeProtocol, "message: nested deeper than %d", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
