package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/mem"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// rig drives a session over a real store without connection, goroutines or time.
type rig struct {
	t     *testing.T
	store store.Store
	pool  Pool
	ex    *Executor
	ses   *Session
	ops   []Operation // submitted, not run
	sent  []uint64    // tokens of sends that are not finished
	out   []byte      // what the peer received
	now   time.Time
	ended bool
}

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newRig(t *testing.T, st store.Store) *rig {
	r := &rig{t: t, store: st, now: start}
	r.newExecutor()
	r.ses = New(r.config(), r.ex, start)
	r.fetch()
	t.Cleanup(func() { r.ex.Close() })
	return r
}

func (r *rig) clock() time.Time { return r.now }

func (r *rig) config() Config { return Config{Software: "rig", Now: r.clock} }

// newExecutor gives the session one, which makes no checkpoint because the machine was slow.
func (r *rig) newExecutor() {
	r.ex = NewExecutor(context.Background(), r.store, &r.pool)
	r.ex.now = r.clock
}

// fetch takes the actions; operations and tokens are kept until step.
func (r *rig) fetch() {
	for {
		a, ok := r.ses.Next()
		if !ok {
			return
		}
		switch a.Do {
		case Send:
			for _, s := range a.Segments {
				r.out = append(r.out, s...)
			}
			if a.Token != 0 {
				r.sent = append(r.sent, a.Token)
			}
		case Submit:
			r.ops = append(r.ops, a.Op)
		case Close:
			r.ended = true
		}
	}
}

// step finishes one send or runs one operation, and tells whether there was one.
func (r *rig) step() bool {
	defer r.fetch()
	if len(r.sent) > 0 {
		token := r.sent[0]
		r.sent = r.sent[1:]
		r.ses.OnSent(token)
		return true
	}
	if len(r.ops) > 0 {
		op := r.ops[0]
		r.ops = r.ops[1:]
		r.ses.OnDone(op.ID, r.ex.Run(op, func(res Result) { r.ses.OnDone(op.ID, res) }))
		return true
	}
	return false
}

func (r *rig) settle() {
	for r.step() {
	}
}

// deliver gives the session one whole frame, and tells whether it wants another.
func (r *rig) deliver(frame []byte) bool {
	h, err := wire.ParseHeader(frame)
	if err != nil {
		r.ses.BadHeader(err)
		r.fetch()
		return false
	}
	p := r.ses.OnHeader(h)
	r.fetch()
	for p.Verdict == Wait {
		if !r.step() {
			r.t.Fatalf("%+v: the session waits and nothing is pending", h)
		}
		p = r.ses.OnHeader(h)
		r.fetch()
	}
	if p.Verdict == Read && h.Length > 0 {
		payload := frame[wire.HeaderSize:][:h.Length]
		if len(p.Memory) != len(payload) {
			r.t.Fatalf("%+v: memory of %d bytes", h, len(p.Memory))
		}
		copy(p.Memory, payload)
		want, status, err := wire.ParseTrailer(frame[wire.HeaderSize+int(h.Length):])
		if err != nil {
			r.t.Fatal(err)
		}
		r.ses.OnPayload(wire.Checksum(payload), want, status)
		r.fetch()
	}
	return p.Verdict != Refuse && !r.ended
}

// move freezes the session and goes on with an imported one over an executor of its own.
func (r *rig) move() {
	for _, token := range r.sent { // their bytes went along
		r.ses.OnSent(token)
	}
	r.sent = nil
	r.fetch()
	for _, token := range r.sent {
		r.t.Fatalf("finishing sends made new ones: token %d", token)
	}
	blob, err := r.ses.Export()
	if err != nil {
		r.t.Fatal(err)
	}
	// What is given up is run by the old side; the rest comes again from Import.
	for _, op := range r.ops {
		if op.Job == Discard || op.Job == Release || op.Job == Shut {
			r.ex.Run(op, nil)
		}
	}
	r.ops = nil
	if err := r.ex.Freeze(); err != nil {
		r.t.Fatal(err)
	}
	r.newExecutor()
	if r.ses, err = Import(r.config(), r.ex, start, blob); err != nil {
		r.t.Fatal(err)
	}
	r.fetch()
}

func frame(k wire.Kind, stream uint32, message any) []byte {
	h := wire.Header{Kind: k, Stream: stream}
	if message == nil {
		return wire.AppendFrame(nil, h, nil)
	}
	return wire.AppendFrame(nil, h, wire.Encode(message))
}

func hello() []byte {
	m := wire.NewHello("test", wire.MaxCredit)
	m.Features = []string{wire.FeatureResend}
	return frame(wire.Hello, 0, m)
}

// upload is an array of the test with the frames that store it.
type testArray struct {
	msg   wire.PutMessage
	meta  array.Meta
	cells [][]byte
	sent  [][]byte // the cells as they are sent, when that is not as they are
}

// newTestArray makes (7, 5) elements of uint16 in cells of (2, 5): four cells, the last half padding.
func newTestArray(t testing.TB, name string, id byte, digest string) *testArray {
	t.Helper()
	dtype, err := array.ParseDType("<u2")
	if err != nil {
		t.Fatal(err)
	}
	a := &testArray{meta: array.Meta{Shape: array.Shape{7, 5}, DType: dtype, Cell: array.Shape{2, 5}, DimNames: array.DefaultDimNames(name, 2)}}
	text, err := a.meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	grid, err := a.meta.Grid()
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 70)
	for i := range raw {
		raw[i] = byte(i) ^ id
	}
	for i := range grid.Len() {
		cell := make([]byte, 20)
		grid.Gather(cell, raw, i)
		a.cells = append(a.cells, cell)
	}
	attributes := `{"id": 1.50}`
	a.msg = wire.PutMessage{Name: name, ID: wire.ID{id}, Array: text, NumPy: jsontext.Value(`"<u2"`), Digest: digest, Attributes: &attributes}
	return a
}

func (a *testArray) put(stream uint32) []byte { return frame(wire.Put, stream, a.msg) }

func (a *testArray) chunk(stream uint32, i int) []byte {
	h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: stream, Index: uint64(i), Raw: uint32(len(a.cells[i]))}
	if a.sent != nil {
		return wire.AppendFrame(nil, h, a.sent[i])
	}
	return wire.AppendFrame(nil, h, a.cells[i])
}

func (a *testArray) finish(stream uint32) []byte {
	h := wire.Header{Kind: wire.Finish, Stream: stream, Index: uint64(len(a.cells))}
	if a.msg.Digest != "sha256" {
		return wire.AppendFrame(nil, h, nil)
	}
	var leaves [][32]byte
	for _, c := range a.cells {
		leaves = append(leaves, sha256.Sum256(c))
	}
	return wire.AppendFrame(nil, h, wire.Encode(wire.FinishMessage{Root: wire.Root(a.meta.Root(leaves))}))
}

func (a *testArray) all(stream uint32) [][]byte {
	f := [][]byte{a.put(stream)}
	for i := range a.cells {
		f = append(f, a.chunk(stream, i))
	}
	return append(f, a.finish(stream))
}

// conversation uses every operation, and every way in which one can end.
func conversation(t testing.TB) [][]byte {
	a, b := newTestArray(t, "lab/a", 1, ""), newTestArray(t, "lab/b", 2, "sha256")
	compress(t, b, codec.Zstd)
	c, d := newTestArray(t, "c", 3, ""), newTestArray(t, "lab/a/below", 4, "")
	e := newTestArray(t, "e", 5, "sha256")
	compress(t, c, codec.LZ4)
	compress(t, e, codec.Zlib)
	f := [][]byte{hello(), frame(wire.Ping, 0, nil)}
	f = append(f, a.all(1)...)
	// Two uploads side by side, cells in another order.
	f = append(f, b.put(2), c.put(3), b.chunk(2, 3), c.chunk(3, 1), b.chunk(2, 0), c.chunk(3, 0), b.chunk(2, 2), b.chunk(2, 1), b.finish(2),
		c.chunk(3, 2), c.chunk(3, 3), c.finish(3))
	f = append(f, frame(wire.Stat, 4, wire.NameMessage{Name: "lab/b"}), frame(wire.List, 5, wire.ListMessage{Prefix: "lab/"}))
	f = append(f, frame(wire.Get, 6, wire.GetMessage{Name: "lab/a"}))
	f = append(f, frame(wire.Get, 7, wire.GetMessage{Name: "lab/b", Cells: [][2]uint64{{3, 1}, {0, 2}}}))
	f = append(f, frame(wire.Get, 8, wire.GetMessage{Name: "nothing"}), frame(wire.Verify, 9, wire.NameMessage{Name: "lab/b"}))
	f = append(f, d.all(10)...) // an array below an array
	f = append(f, e.put(11), e.chunk(11, 0), e.chunk(11, 1), frame(wire.Cancel, 11, nil), e.chunk(11, 2))
	f = append(f, a.all(12)...)                                                            // the same id again: the same receipt
	f = append(f, e.put(13), e.chunk(13, 0), e.chunk(13, 1), e.chunk(13, 1), e.finish(13)) // a cell twice
	f = append(f, frame(wire.Kind(90), 99, wire.NameMessage{Name: "from the future"}))
	f = append(f, frame(wire.Delete, 14, wire.NameMessage{Name: "lab/a"}), frame(wire.List, 15, wire.ListMessage{}))
	f = append(f, repeats(t)...)
	return append(f, frame(wire.Ping, 0, nil))
}

// repeats is about cells that do not travel: put, read, and refused.
func repeats(t testing.TB) [][]byte {
	a, b := newTestArray(t, "s/a", 6, "sha256"), newTestArray(t, "s/b", 7, "")
	a.msg.Sparse, b.msg.Sparse = true, true
	a.cells[1], a.cells[2], a.cells[3] = a.cells[0], make([]byte, 20), make([]byte, 20)
	alias := func(stream uint32, first uint64, count uint32, source uint64) []byte {
		h := wire.Header{Kind: wire.Alias, Flags: wire.Critical, Stream: stream, Index: first, Raw: count}
		return wire.AppendFrame(nil, h, binary.LittleEndian.AppendUint64(nil, source))
	}
	fill := func(stream uint32, first uint64, count uint32) []byte {
		return wire.AppendFrame(nil, wire.Header{Kind: wire.Fill, Flags: wire.Critical, Stream: stream, Index: first, Raw: count}, nil)
	}
	f := [][]byte{a.put(16), a.chunk(16, 0), alias(16, 1, 1, 0), fill(16, 2, 2), a.finish(16)}
	f = append(f, frame(wire.Get, 17, wire.GetMessage{Name: "s/a", Takes: []string{"fill"}}), frame(wire.Get, 18, wire.GetMessage{Name: "s/a"}))
	f = append(f, frame(wire.Verify, 19, wire.NameMessage{Name: "s/a"}))
	f = append(f, b.put(20), b.chunk(20, 1), alias(20, 2, 1, 0), b.finish(20)) // a source that did not come
	f = append(f, b.put(21), b.chunk(21, 0), alias(21, 1, 3, 0), b.finish(21)) // the last has padding
	f = append(f, b.put(22), fill(22, 0, 3), fill(22, 2, 1), b.finish(22))     // a cell twice
	b.msg.Sparse = false
	return append(f, b.put(23), fill(23, 0, 4), b.finish(23)) // not sparse
}

// stores are the back ends that a session is tested over.
var stores = map[string]func(t *testing.T) store.Store{
	"mem": func(t *testing.T) store.Store { return mem.New(mem.Config{}) },
	"dir": func(t *testing.T) store.Store {
		st, err := dir.Open(t.TempDir()+"/store", dir.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	},
}

var moments = regexp.MustCompile(`"created":"[^"]*"`)

// replies returns what the peer received, by stream, without what two runs need not share.
func (r *rig) replies() map[uint32][]string {
	var d wire.Decoder
	d.Feed(r.out)
	got := map[uint32][]string{}
	for {
		f, ok, err := d.Next()
		if err != nil {
			r.t.Fatal(err)
		}
		if !ok {
			break
		}
		text := fmt.Sprintf("%v %d %d %s", f.Kind, f.Index, f.Raw, moments.ReplaceAll(f.Payload, nil))
		got[f.Stream] = append(got[f.Stream], text)
	}
	if d.Buffered() > 0 {
		r.t.Fatalf("%d bytes are no frame", d.Buffered())
	}
	return got
}

// TestConversation checks the answers of a whole conversation.
func TestConversation(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, open(t))
			for _, f := range conversation(t) {
				if !r.deliver(f) {
					t.Fatalf("closed after %q", f[:wire.HeaderSize])
				}
				r.settle()
			}
			got := map[uint32]string{}
			for stream, list := range r.replies() {
				for _, text := range list {
					got[stream] += text[:bytes.IndexByte([]byte(text), ' ')] + " "
				}
			}
			want := map[uint32]string{
				0: "HELLO PONG PONG ", 1: "RECEIPT ", 2: "RECEIPT ", 3: "RECEIPT ", 4: "META ", 5: "ENTRIES ",
				6: "META CHUNK CHUNK CHUNK CHUNK DONE ", 7: "META CHUNK CHUNK CHUNK DONE ", 8: "ERROR ", 9: "REPORT ",
				10: "ERROR ", 11: "ERROR ", 12: "RECEIPT ", 13: "ERROR ", 14: "DONE ", 15: "ENTRIES ",
				16: "RECEIPT ", 17: "META CHUNK CHUNK FILL FILL DONE ", 18: "META CHUNK CHUNK CHUNK CHUNK DONE ", 19: "REPORT ",
				20: "ERROR ", 21: "ERROR ", 22: "ERROR ", 23: "ERROR ",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if !r.ses.Idle() || len(r.ses.ops) > 0 || len(r.ses.tokens) > 0 {
				t.Errorf("left: %d puts, %d gets, %d calls, %d operations, %d tokens",
					len(r.ses.puts), len(r.ses.gets), len(r.ses.calls), len(r.ses.ops), len(r.ses.tokens))
			}
		})
	}
}

// TestFreezeAtEveryFrame moves the session to another after every frame of the conversation, with operations pending, and once after
// every single frame alone; the peer must not notice.
func TestFreezeAtEveryFrame(t *testing.T) {
	t.Run("all", func(t *testing.T) { freezeAtEveryFrame(t, conversation(t)) })
	t.Run("resend", func(t *testing.T) { freezeAtEveryFrame(t, resends(t)) })
}

func freezeAtEveryFrame(t *testing.T, frames [][]byte) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			reference := newRig(t, open(t))
			for _, f := range frames {
				reference.deliver(f)
				reference.settle()
			}
			want := reference.replies()
			for at := -1; at < len(frames); at++ {
				for _, steps := range []int{0, 1, 2} { // operations run before the move
					r := newRig(t, open(t))
					for i, f := range frames {
						if !r.deliver(f) {
							t.Fatalf("move at %d: closed at frame %d", at, i)
						}
						if at == i || at < 0 {
							for range steps {
								r.step()
							}
							r.move()
						}
						r.settle()
					}
					if diff := cmp.Diff(want, r.replies()); diff != "" {
						t.Fatalf("moved after frame %d (-1: every) and %d steps:\n%s", at, steps, diff)
					}
				}
			}
			t.Logf("%d frames, %d moves", len(frames), 3*(len(frames)+len(frames)))
		})
	}
}

// TestCredit uses more than was granted, and sees that what was used comes back.
func TestCredit(t *testing.T) {
	big := &testArray{meta: array.Meta{Shape: array.Shape{5, wire.MaxCell}, Cell: array.Shape{1, wire.MaxCell}, DimNames: array.DefaultDimNames("big", 2)}}
	var err error
	if big.meta.DType, err = array.ParseDType("|u1"); err != nil {
		t.Fatal(err)
	}
	text, err := big.meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	big.msg = wire.PutMessage{Name: "big", ID: wire.ID{7}, Array: text}
	for range 5 {
		big.cells = append(big.cells, make([]byte, wire.MaxCell))
	}
	r := newRig(t, stores["dir"](t))
	r.deliver(hello())
	r.deliver(big.put(1))
	r.settle()
	for i := range 2 {
		if !r.deliver(big.chunk(1, i)) {
			t.Fatalf("cell %d within the credit was refused", i)
		}
	}
	if granted := r.replies()[0]; len(granted) != 1 {
		t.Errorf("granted while nothing was free: %v", granted)
	}
	r.settle()
	if granted := r.replies()[0]; len(granted) != 3 || granted[1] != fmt.Sprintf("CREDIT %d 0 ", wire.MaxCell) {
		t.Errorf("granted when all was free: %v", granted)
	}
	r.deliver(big.chunk(1, 2))
	r.deliver(big.chunk(1, 3))
	if r.deliver(big.chunk(1, 4)) {
		t.Error("a third cell of 16 MiB was accepted on a credit of 32")
	}
	if got := r.replies()[0]; !r.ended || got[len(got)-1][:6] != "ERROR " {
		t.Errorf("%v", got)
	}
}

// worked is how long this process has had a processor: what others take from it is not the session's.
func worked() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// FuzzSession feeds any bytes as frames: no panic, memory within the credit, and every store operation has an end.
func FuzzSession(f *testing.F) {
	var all []byte
	for _, b := range conversation(f) {
		all = append(all, b...)
		f.Add(b)
	}
	f.Add(all)
	a := newTestArray(f, "a", 1, "sha256")
	for _, frames := range [][][]byte{
		{hello(), a.put(1), a.chunk(1, 0), a.chunk(1, 0)},
		{hello(), a.put(1), a.finish(1), a.put(2)},
		{hello(), a.put(3), frame(wire.Cancel, 3, nil), a.chunk(3, 1)},
		{hello(), frame(wire.Get, 1, wire.GetMessage{Name: "x", Cells: [][2]uint64{{0, 9}}}), frame(wire.Credit, 0, nil)},
	} {
		f.Add(bytes.Join(frames, nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		begin := worked()
		defer func() {
			if d := worked() - begin; d > 2*time.Second {
				t.Errorf("took %v", d)
			}
		}()
		r := newRig(t, mem.New(mem.Config{Limit: 64 << 20}))
		b = bytes.Clone(b)
		for len(b) >= wire.HeaderSize {
			// Fields are mutated, checksums made right: otherwise nothing gets past them.
			copy(b, wire.Magic)
			binary.LittleEndian.PutUint32(b[28:], wire.Checksum(b[:28]))
			h, err := wire.ParseHeader(b)
			n := min(h.Size(), len(b))
			if err == nil && n < h.Size() {
				return // the rest of the frame does not come
			}
			if err == nil && h.Length > 0 {
				trailer := b[wire.HeaderSize+int(h.Length):]
				if trailer[4] < 250 { // and seldom a damaged payload
					binary.LittleEndian.PutUint32(trailer, wire.Checksum(b[wire.HeaderSize:][:h.Length]))
				}
				copy(trailer[4:], make([]byte, 4))
			}
			if !r.deliver(b[:n]) {
				break
			}
			b = b[n:]
			if len(b)%3 == 0 { // not always at once
				r.settle()
			}
		}
		r.settle()
		if len(r.ses.ops) > 0 || len(r.ses.tokens) > 0 {
			t.Fatalf("%d operations and %d tokens are left", len(r.ses.ops), len(r.ses.tokens))
		}
		if r.ses.outstanding > r.ses.cfg.Window {
			t.Fatalf("%d bytes outstanding", r.ses.outstanding)
		}
	})
}
