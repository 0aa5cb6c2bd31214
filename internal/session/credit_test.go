package session

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/store/dir"
	"ndferry/store/mem"
	"ndferry/wire"
)

// bytesOf is the PUT of an array of cells of size bytes.
func bytesOf(t *testing.T, name string, id byte, cells, size int) wire.PutMessage {
	dtype, err := array.ParseDType("|u1")
	if err != nil {
		t.Fatal(err)
	}
	meta := array.Meta{Shape: array.Shape{cells * size}, DType: dtype, Cell: array.Shape{size}, DimNames: array.DefaultDimNames(name, 1)}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	return wire.PutMessage{Name: name, ID: wire.ID{id}, Array: text, NumPy: []byte(`"|u1"`)}
}

// TestGrant_stuck: a peer that waits for the credit of a cell of 16 MiB, of a PUT that it did not send, while the server withholds what the cells of
// another PUT do not need, gets it when nothing came for a while; wherever the connection has moved.
func TestGrant_stuck(t *testing.T) {
	st := mem.New(mem.Config{})
	defer st.Close()
	r := newRig(t, st)
	r.ses = New(Config{Now: func() time.Time { r.now = r.now.Add(time.Millisecond); return r.now }, Link: func() (time.Duration, bool) { return 0, true }}, r.ex, start)
	r.say(hello())
	const cells, size = 40, 1 << 20
	r.say(frame(wire.Put, 1, bytesOf(t, "a", 1, cells, size)))
	chunk := make([]byte, size)
	for i := range uint64(cells - 1) {
		r.say(wire.AppendFrame(nil, wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: 1, Index: i, Raw: size}, chunk))
	}
	has := func() uint64 { return r.ses.cfg.Window - r.ses.outstanding }
	if most, _ := r.ses.window.Size(size); has() > most || has() < size || !r.ses.watching {
		t.Fatalf("%d bytes of credit, at most %d wanted; watching: %v", has(), most, r.ses.watching)
	}
	r.ses.OnTick(r.now) // cells came since the timer was set
	if most, _ := r.ses.window.Size(size); has() > most || !r.ses.watching {
		t.Fatalf("%d bytes of credit while cells come, watching: %v", has(), r.ses.watching)
	}
	r.ses.OnTick(r.now)
	r.fetch()
	if has() < wire.MaxCell {
		t.Fatalf("%d bytes of credit for a peer that may wait", has())
	}
	r.say(frame(wire.Put, 2, bytesOf(t, "b", 2, 1, wire.MaxCell)))
	r.say(wire.AppendFrame(nil, wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: 2, Raw: wire.MaxCell}, make([]byte, wire.MaxCell)))
	r.say(wire.AppendFrame(nil, wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: 2, Index: 1}, nil))
	if !strings.Contains(r.kinds(2), wire.Receipt.String()) {
		t.Errorf("stream 2: %s", r.kinds(2))
	}
}

// TestGrant_slowly: a peer whose cells are stored slowly hears of it within grantPause of the store's progress, though it is owed little; one
// whose cells are stored at once, long after those before, hears nothing but the receipt.
func TestGrant_slowly(t *testing.T) {
	st, err := dir.Open(filepath.Join(t.TempDir(), "store"), dir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r := newRig(t, st)
	r.say(hello())
	credits := func() int { return strings.Count(r.kinds(0), wire.Credit.String()) }
	frames := newTestArray(t, "a", 1, "").all(1)
	r.say(frames[0])
	r.deliver(frames[1]) // two cells
	r.deliver(frames[2])
	if len(r.ops) == 0 {
		t.Fatal("nothing is to be written")
	}
	r.now = r.now.Add(grantPause)
	r.settle()
	if n := credits(); n != 1 {
		t.Errorf("%d grants for two cells that were stored after %v, want 1", n, grantPause)
	}
	r.now = r.now.Add(100 * grantPause)
	for _, f := range frames[3:] {
		r.deliver(f)
		r.settle()
	}
	if n := credits(); n != 1 {
		t.Errorf("%d grants after cells that were stored at once, want 1 as before", n)
	}
}
