package session

import (
	"strings"
	"testing"
	"time"

	"ndferry/array"
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
	r := newRig(t, stores["mem"](t))
	r.ses = New(Config{Now: func() time.Time { r.now = r.now.Add(time.Millisecond); return r.now }, Link: func() (time.Duration, bool) { return 0, true }}, r.ex, start)
	r.say(hello())
	const cells, size = 40, 1 << 20
	r.say(frame(wire.Put, 1, bytesOf(t, "a", 1, cells, size)))
	chunk := make([]byte, size)
	for i := range uint64(cells - 1) {
		r.say(wire.AppendFrame(nil, wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: 1, Index: i, Raw: size}, chunk))
	}
	has := func() uint64 { return r.ses.cfg.Window - r.ses.outstanding }
	if most, _ := r.ses.window.Size(size); has() > most || has() < size || r.ses.stuckAt.IsZero() {
		t.Fatalf("%d bytes of credit, at most %d wanted; stuck at %v", has(), most, r.ses.stuckAt)
	}
	r.ses.OnTick(r.now) // cells came since the timer was set
	if most, _ := r.ses.window.Size(size); has() > most || r.ses.stuckAt.IsZero() {
		t.Fatalf("%d bytes of credit while cells come, stuck at %v", has(), r.ses.stuckAt)
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
	r := newRig(t, stores["dir"](t))
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

// TestLife has a PUT wait for its store, in every way: its peer hears of us every grantPause, by CREDIT or ACK, and nothing when it is we who wait, or
// when the PUT has ended.
func TestLife(t *testing.T) {
	r := newRig(t, stores["dir"](t))
	r.say(hello())
	signs := func() string { return r.kinds(0) + r.kinds(1) }
	tick := func(when, want string) {
		t.Helper()
		before := signs()
		if r.armed.IsZero() || r.armed.Sub(r.now) > grantPause {
			t.Fatalf("%s: the next tick is at %v, now is %v", when, r.armed, r.now)
		}
		r.now, r.armed = r.armed, time.Time{}
		r.ses.OnTick(r.now)
		r.fetch()
		if now := signs(); len(now) != len(before)+len(want) || strings.Count(now, want) == strings.Count(before, want) && want != "" {
			t.Errorf("%s: it had heard %q, now %q, want %q more", when, before, now, want)
		}
	}
	frames := newTestArray(t, "a", 1, "").all(1)
	r.deliver(frames[0])
	tick("the upload is not open", "")
	r.armed = time.Time{}
	r.move()
	tick("still not, and it has moved", "")
	r.settle()
	tick("nothing was sent", "")
	r.deliver(frames[1])
	tick("a cell is not stored", "ACK ")
	r.settle()
	for _, f := range frames[2:] {
		r.deliver(f)
	}
	tick("cells and the array are not stored", "CREDIT ")
	r.settle()
	if !strings.Contains(r.kinds(1), wire.Receipt.String()) {
		t.Errorf("the PUT was answered with %s", r.kinds(1))
	}
	tick("it has ended", "")
	if !r.armed.IsZero() {
		t.Errorf("a tick is to come at %v for no PUT", r.armed)
	}
}
