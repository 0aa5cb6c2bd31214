package session

import (
	"bytes"
	"strings"
	"testing"

	"ndferry/wire"
	"ndferry/wire/codec"
)

// begun is a rig with an array that came whole, FINISH too, while its writes are pending.
func begun(t *testing.T, open func(*testing.T) *rig, a *testArray, greeting []byte) *rig {
	r := open(t)
	for _, f := range append([][]byte{greeting}, a.all(1)...) {
		if !r.deliver(f) {
			t.Fatalf("closed after %q", f[:wire.HeaderSize])
		}
	}
	last := r.ops[len(r.ops)-1]
	if len(r.ops) != len(a.cells)+1 || last.Job != Commit || !last.Behind {
		t.Fatalf("pending: %+v", r.ops)
	}
	return r
}

// answers are the kinds of what came on stream 1.
func (r *rig) answers() (kinds []string) {
	for _, text := range r.replies()[1] {
		kind, _, _ := strings.Cut(text, " ")
		kinds = append(kinds, kind)
	}
	return kinds
}

// broken is an array of which cell 1 does not decode, and the frame with the right one.
func broken(t *testing.T) (a *testArray, whole []byte) {
	a = newTestArray(t, "a", 1, "")
	compress(t, a, codec.LZ4)
	whole = a.chunk(1, 1)
	a.sent[1] = append(bytes.Clone(a.sent[1][:4]), make([]byte, len(a.sent[1])-4)...)
	return a, whole
}

// TestCommitBehind has the Commit submitted with the writes before it, of which all are made, or one is not: then the array is not
// stored before the cell came again, or not at all.
func TestCommitBehind(t *testing.T) {
	cancel := wire.AppendFrame(nil, wire.Header{Kind: wire.Cancel, Stream: 1}, nil)
	mute := frame(wire.Hello, 0, wire.NewHello("test", wire.MaxCredit)) // does not send cells again
	for name, open := range stores {
		rigOf := func(t *testing.T) *rig { return newRig(t, open(t)) }
		check := func(t *testing.T, r *rig, stored bool, want ...string) {
			t.Helper()
			r.settle()
			if got := r.answers(); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("answers %v, want %v", got, want)
			}
			if !r.ses.Idle() || len(r.ses.ops) > 0 || !r.ex.Idle() || r.ses.outstanding != r.ses.owed {
				t.Errorf("left: %d puts, %d operations", len(r.ses.puts), len(r.ses.ops))
			}
			_, err := r.store.Open(t.Context(), "a")
			if (err == nil) != stored {
				t.Errorf("stored: %v", err)
			}
		}
		t.Run(name+"/made", func(t *testing.T) {
			r := begun(t, rigOf, newTestArray(t, "a", 1, ""), hello())
			check(t, r, true, "RECEIPT")
		})
		t.Run(name+"/cancelled too late", func(t *testing.T) {
			r := begun(t, rigOf, newTestArray(t, "a", 1, ""), hello())
			r.deliver(cancel)
			check(t, r, true, "RECEIPT")
		})
		t.Run(name+"/again", func(t *testing.T) {
			a, whole := broken(t)
			r := begun(t, rigOf, a, hello())
			r.settle()
			if _, err := r.store.Open(t.Context(), "a"); err == nil {
				t.Error("stored without a cell")
			}
			r.deliver(whole)
			r.deliver(a.finish(1))
			check(t, r, true, "RESEND", "RECEIPT")
		})
		t.Run(name+"/again before the commit is held", func(t *testing.T) {
			a, whole := broken(t)
			r := begun(t, rigOf, a, hello())
			for len(r.ops) > 1 {
				r.step()
			}
			r.deliver(whole)
			r.deliver(a.finish(1))
			check(t, r, true, "RESEND", "RECEIPT")
		})
		t.Run(name+"/cancelled", func(t *testing.T) {
			a, _ := broken(t)
			r := begun(t, rigOf, a, hello())
			r.deliver(cancel)
			check(t, r, false, "RESEND", "ERROR")
		})
		t.Run(name+"/failed", func(t *testing.T) {
			a, _ := broken(t)
			r := begun(t, rigOf, a, mute)
			check(t, r, false, "ERROR")
		})
	}
}

// TestCommitBehind_moved moves the connection with writes and their Commit pending.
func TestCommitBehind_moved(t *testing.T) {
	for name, open := range stores {
		if name == "mem" {
			continue // its uploads do not outlive their executor
		}
		r := begun(t, func(t *testing.T) *rig { return newRig(t, open(t)) }, newTestArray(t, "a", 1, ""), hello())
		r.move()
		r.settle()
		if got := r.answers(); strings.Join(got, " ") != "RECEIPT" {
			t.Errorf("answers %v", got)
		}
	}
}
