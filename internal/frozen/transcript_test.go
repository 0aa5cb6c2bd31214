package frozen

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ndferry/wire"
)

// root is where the recordings are.
const root = "../../spec/frozen/v1"

// transcript is a file of conversations: what clients said to one server, and what it answered, in the order of cause and effect.
type transcript struct {
	name  string
	about string
	store string // dir, mem, or frozen: a copy of the frozen store
	calls []call // what a client did; none when it was no client of ours
	lines []line
}

// line is a step of a transcript.
type line struct {
	from byte // C client, S server, X the server closed, D the line broke, E an event, W a wait while it was recorded
	conn int
	data []byte // a frame, or bytes that are none; the text of an event
}

// frame splits a line of C or S; ok is false when it is no whole frame.
func (l *line) frame() (h wire.Header, payload []byte, ok bool) {
	h, err := wire.ParseHeader(l.data)
	if err != nil || len(l.data) != frameSize(h) {
		return h, nil, false
	}
	return h, l.data[wire.HeaderSize:][:h.Length], true
}

func frameSize(h wire.Header) int {
	if h.Length == 0 {
		return wire.HeaderSize
	}
	return wire.HeaderSize + int(h.Length) + wire.TrailerSize
}

// call is one call of a client, and what it returned.
type call struct {
	Op        string         `json:"op"`
	Name      string         `json:"name,omitzero"`
	ID        string         `json:"id,omitzero"`
	NumPy     jsontext.Value `json:"numpy,omitzero"`
	Shape     []int          `json:"shape,omitzero"`
	Order     string         `json:"order,omitzero"` // F, or C
	Data      string         `json:"data,omitzero"`  // of the elements, hex, in memory order; repeated to fill the array
	Broadcast []int          `json:"broadcast,omitzero"`
	Cell      []int          `json:"chunks,omitzero"`
	Digest    string         `json:"digest,omitzero"`
	Codec     string         `json:"codec,omitzero"`
	Shuffle   string         `json:"shuffle,omitzero"`
	Attrs     string         `json:"attrs,omitzero"`
	IfAbsent  bool           `json:"if_absent,omitzero"`
	Relaxed   bool           `json:"relaxed,omitzero"`
	Resume    bool           `json:"resume,omitzero"` // with retries, which make a client say resume
	Region    string         `json:"region,omitzero"`
	Prefix    string         `json:"prefix,omitzero"`
	Result    jsontext.Value `json:"result,omitzero"`
}

func (t *transcript) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\nstore %s\n", t.about, t.store)
	for _, c := range t.calls {
		text, err := json.Marshal(c, json.Deterministic(true))
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "call %s\n", text)
	}
	for _, l := range t.lines {
		switch l.from {
		case 'C', 'S':
			h, _, ok := l.frame()
			what := "bytes"
			if ok {
				what = h.Kind.String()
			}
			fmt.Fprintf(&b, "%c %d %s %s\n", l.from, l.conn, base64.StdEncoding.EncodeToString(l.data), strings.ReplaceAll(what, " ", "-"))
		case 'E':
			fmt.Fprintf(&b, "E %s\n", l.data)
		default:
			fmt.Fprintf(&b, "%c %d\n", l.from, l.conn)
		}
	}
	return b.Bytes()
}

func readTranscript(t testing.TB, path string) *transcript {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tr := &transcript{name: strings.TrimSuffix(filepath.Base(path), ".txt")}
	for n, s := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		word, rest, _ := strings.Cut(s, " ")
		switch word {
		case "#":
			tr.about = rest
		case "store":
			tr.store = rest
		case "call":
			var c call
			if err := json.Unmarshal([]byte(rest), &c); err != nil {
				t.Fatalf("%s: line %d: %v", path, n+1, err)
			}
			tr.calls = append(tr.calls, c)
		case "E":
			tr.lines = append(tr.lines, line{from: 'E', data: []byte(rest)})
		case "C", "S", "X", "D", "W":
			f := strings.Fields(rest)
			l := line{from: word[0]}
			l.conn, err = strconv.Atoi(f[0])
			if err == nil && len(f) > 1 {
				l.data, err = base64.StdEncoding.DecodeString(f[1])
			}
			if err != nil {
				t.Fatalf("%s: line %d: %v", path, n+1, err)
			}
			tr.lines = append(tr.lines, l)
		default:
			t.Fatalf("%s: line %d: %q", path, n+1, word)
		}
	}
	return tr
}

func transcripts(t testing.TB) []*transcript {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "conversations", "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no conversations in %s, error %v", root, err)
	}
	slices.Sort(paths)
	var list []*transcript
	for _, p := range paths {
		list = append(list, readTranscript(t, p))
	}
	return list
}

// pacing tells that a frame of a server comes when it likes: who replays a conversation neither waits for it nor compares it.
func pacing(k wire.Kind) bool { return k == wire.Credit || k == wire.Ack }

// settle gives frames that a server sends when it likes one place, behind what the client sent without waiting for them, and PINGs one token.
func (t *transcript) settle() {
	for i := range t.lines {
		if h, _, ok := t.lines[i].frame(); ok && (h.Kind == wire.Ping || h.Kind == wire.Pong) {
			h.Index = 1
			t.lines[i].data = wire.AppendFrame(nil, h, nil)
		}
	}
	for i := len(t.lines) - 1; i >= 0; i-- {
		if t.finished(i) {
			continue
		}
		for j := i; j+1 < len(t.lines); j++ {
			a, b := &t.lines[j], &t.lines[j+1]
			h, _, ok := a.frame()
			early := h.Kind == wire.Resend || h.Kind == wire.Receipt || h.Kind == wire.Fail // while the client still sends
			if a.from != 'S' || !ok || !pacing(h.Kind) && !early || b.from != 'C' || a.conn != b.conn {
				break
			}
			next, _, ok := b.frame()
			if !ok || next.Kind != wire.Chunk && next.Kind != wire.Finish || early && next.Stream != h.Stream {
				break
			}
			*a, *b = *b, *a
			if next.Kind == wire.Finish {
				break
			}
		}
	}
}

// finished tells that the client had said FINISH of the stream of line i.
func (t *transcript) finished(i int) bool {
	of, _, _ := t.lines[i].frame()
	return slices.ContainsFunc(t.lines[:i], func(l line) bool {
		h, _, ok := l.frame()
		return ok && l.from == 'C' && l.conn == t.lines[i].conn && h.Kind == wire.Finish && (h.Stream == of.Stream || of.Stream == 0)
	})
}
