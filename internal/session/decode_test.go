package session

import (
	"context"
	"strings"
	"testing"

	"ndferry/array"
	"ndferry/store"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// compress makes a's cells travel in containers.
func compress(t testing.TB, a *testArray, name codec.Name) {
	t.Helper()
	p := codec.Default(name, 2)
	a.meta.Codecs = []array.Codec{array.Blosc{CName: name.String(), CLevel: p.Level, Shuffle: "shuffle", TypeSize: 2}.Codec()}
	var err error
	if a.msg.Array, err = a.meta.AppendWire(nil); err != nil {
		t.Fatal(err)
	}
	a.msg.CodecWhy = "because"
	for _, c := range a.cells {
		enc, err := codec.AppendEncode(nil, c, p)
		if err != nil {
			t.Fatal(err)
		}
		a.sent = append(a.sent, enc)
	}
}

// TestValidate sends an array of which one cell does not decode, to a server that looks and to one that only looks at headers; with
// sha256 both look.
func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		how, digest string
		refused     bool
	}{{ValidateFull, "", true}, {"", "", true}, {ValidateHeader, "", false}, {ValidateHeader, "sha256", true}} {
		for name, open := range stores {
			t.Run(tt.how+tt.digest+"/"+name, func(t *testing.T) {
				r := newRig(t, open(t))
				r.ex.Validate(tt.how)
				a := newTestArray(t, "a", 1, tt.digest)
				big := make([]byte, 4<<10)
				a.meta.Shape, a.meta.Cell = array.Shape{4, 1 << 10}, array.Shape{2, 1 << 10}
				a.cells = [][]byte{big, big}
				compress(t, a, codec.LZ4)
				bad := a.sent[1]
				bad[len(bad)-1] ^= 0xff
				bad[codec.HeaderLen] ^= 0x40 // the table of blocks
				for _, f := range append([][]byte{frame(wire.Hello, 0, wire.NewHello("test", wire.MaxCredit))}, a.all(1)...) {
					if !r.deliver(f) {
						t.Fatal("closed")
					}
					r.settle()
				}
				last := strings.Join(r.replies()[1], "\n")
				if refused := strings.HasPrefix(last, "ERROR"); refused != tt.refused || refused && !strings.Contains(last, `"integrity"`) {
					t.Fatalf("answered %s", last)
				}
				st, err := r.store.Open(context.Background(), "a")
				if tt.refused {
					if err == nil {
						t.Error("something is stored")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				if got := st.Info().Receipt; got.Validated != store.Header || got.Codec != "lz4" || got.CodecWhy != "because" ||
					!strings.Contains(last, `"validated":"header"`) {
					t.Errorf("receipt %+v, sent %s", got, last)
				}
				var problems []string
				if err := st.Verify(context.Background(), nil, func(p store.Problem) { problems = append(problems, p.Text) }); err != nil {
					t.Fatal(err)
				}
				if len(problems) != 1 || !strings.Contains(problems[0], "cannot be decoded") {
					t.Errorf("verify found %q", problems)
				}
			})
		}
	}
}

// TestGet_unspoken asks for a compressed array as a peer that decodes none.
func TestGet_unspoken(t *testing.T) {
	st := stores["mem"](t)
	r := newRig(t, st)
	a := newTestArray(t, "a", 1, "")
	compress(t, a, codec.LZ4)
	for _, f := range append([][]byte{frame(wire.Hello, 0, wire.NewHello("test", wire.MaxCredit))}, a.all(1)...) {
		r.deliver(f)
		r.settle()
	}
	old := newRig(t, st)
	m := wire.NewHello("old", wire.MaxCredit)
	m.Codecs = []string{wire.CodecNone}
	for _, f := range [][]byte{frame(wire.Hello, 0, m), frame(wire.Get, 1, wire.GetMessage{Name: "a"}), frame(wire.Stat, 2, wire.NameMessage{Name: "a"})} {
		old.deliver(f)
		old.settle()
	}
	got := old.replies()
	if len(got[1]) != 1 || !strings.Contains(got[1][0], `"unsupported"`) || !strings.HasPrefix(got[2][0], "META") {
		t.Errorf("answered %v", got)
	}
}
