package session

import (
	"testing"

	"ndferry/store"
	"ndferry/wire"
)

// pair are two connections to one server.
func pair(t *testing.T, st store.Store) (first, second *rig) {
	owners := &Owners{}
	first, second = newRig(t, st), newRig(t, st)
	for _, r := range []*rig{first, second} {
		r.ex.Share(owners, func() {})
		r.say(hello())
	}
	return first, second
}

// say delivers frames and runs what follows.
func (r *rig) say(frames ...[]byte) {
	r.t.Helper()
	for _, f := range frames {
		if !r.deliver(f) {
			r.t.Fatalf("closed after %q", f[:wire.HeaderSize])
		}
		r.settle()
	}
}

// kinds are those of the answers on a stream.
func (r *rig) kinds(stream uint32) (list string) {
	for _, text := range r.replies()[stream] {
		for i := range text {
			if text[i] == ' ' {
				list += text[:i+1]
				break
			}
		}
	}
	return list
}

func (a *testArray) join(stream uint32) []byte {
	msg := a.msg
	msg.Join = true
	return frame(wire.Put, stream, msg)
}

func joinFinish(stream uint32, n uint64) []byte {
	return wire.AppendFrame(nil, wire.Header{Kind: wire.Finish, Stream: stream, Index: n}, nil)
}

// TestJoin is a PUT over two connections, in every way in which it can go.
func TestJoin(t *testing.T) {
	for name, open := range stores {
		for _, c := range []struct {
			name          string
			digest        string
			run           func(a *testArray, first, second *rig)
			first, second string
		}{
			{"two halves", "sha256", func(a *testArray, first, second *rig) {
				first.say(a.put(1))
				second.say(a.join(1), a.chunk(1, 3), a.chunk(1, 0))
				first.say(a.chunk(1, 1), a.chunk(1, 2))
				second.say(joinFinish(1, 2))
				first.say(a.finish(1))
			}, "ACCEPT RECEIPT ", "ACCEPT DONE "},
			{"all on the second", "", func(a *testArray, first, second *rig) {
				first.say(a.put(1))
				second.say(a.join(1), a.chunk(1, 3), a.chunk(1, 0), a.chunk(1, 1), a.chunk(1, 2), joinFinish(1, 4))
				first.say(a.finish(1))
			}, "ACCEPT RECEIPT ", "ACCEPT DONE "},
			{"not open", "", func(a *testArray, first, second *rig) {
				second.say(a.join(1), a.chunk(1, 0))
				first.say(a.all(1)...)
			}, "ACCEPT RECEIPT ", "ERROR "},
			{"another description", "", func(a *testArray, first, second *rig) {
				first.say(a.put(1))
				b := *a
				b.msg.Name = "another"
				second.say(b.join(1))
				first.say(a.all(1)[1:]...)
			}, "ACCEPT RECEIPT ", "ERROR "},
			{"a cell on both", "", func(a *testArray, first, second *rig) {
				first.say(a.put(1), a.chunk(1, 0))
				second.say(a.join(1), a.chunk(1, 0))
				first.say(a.all(1)[2:]...)
			}, "ACCEPT RECEIPT ", "ACCEPT ERROR "},
			{"a wrong count", "", func(a *testArray, first, second *rig) {
				first.say(a.put(1))
				second.say(a.join(1), a.chunk(1, 0), joinFinish(1, 2))
			}, "ACCEPT ", "ACCEPT ERROR "},
			{"cells missing", "", func(a *testArray, first, second *rig) {
				first.say(a.put(1), a.chunk(1, 0))
				second.say(a.join(1), a.chunk(1, 1), joinFinish(1, 1))
				first.say(a.finish(1))
			}, "ACCEPT ERROR ", "ACCEPT DONE "},
			{"the first cancels", "", func(a *testArray, first, second *rig) {
				first.say(a.put(1))
				second.say(a.join(1), a.chunk(1, 1))
				first.say(frame(wire.Cancel, 1, nil))
				second.say(a.chunk(1, 2))
			}, "ACCEPT ERROR ", "ACCEPT ERROR "},
			{"the second cancels", "", func(a *testArray, first, second *rig) {
				first.say(a.put(1))
				second.say(a.join(1), a.chunk(1, 1), frame(wire.Cancel, 1, nil))
				first.say(a.chunk(1, 0), a.chunk(1, 2), a.chunk(1, 3), a.finish(1))
			}, "ACCEPT RECEIPT ", "ACCEPT ERROR "},
			{"both move", "sha256", func(a *testArray, first, second *rig) {
				first.say(a.put(1), a.chunk(1, 0))
				second.say(a.join(1), a.chunk(1, 1))
				second.deliver(a.chunk(1, 2)) // its write is pending
				owners := &Owners{}
				for _, r := range []*rig{second, first} {
					r.move()
					r.ex.Share(owners, func() {})
				}
				first.settle()
				second.settle()
				second.say(joinFinish(1, 2))
				first.say(a.chunk(1, 3), a.finish(1))
			}, "ACCEPT RECEIPT ", "ACCEPT DONE "},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				st := open(t)
				first, second := pair(t, st)
				a := newTestArray(t, "a", 1, c.digest)
				a.msg.Resume = true
				c.run(a, first, second)
				if got := first.kinds(1); got != c.first {
					t.Errorf("the first connection got %s, want %s: %v", got, c.first, first.replies()[1])
				}
				if got := second.kinds(1); got != c.second {
					t.Errorf("the second connection got %s, want %s: %v", got, c.second, second.replies()[1])
				}
				if c.first == "ACCEPT RECEIPT " {
					second.say(frame(wire.Verify, 2, wire.NameMessage{Name: "a"}))
					if got := second.kinds(2); got != "REPORT " {
						t.Errorf("verify: %v", second.replies()[2])
					}
				}
				second.ex.Close()
				first.ex.Close()
				if n := len(first.ses.ops) + len(second.ses.ops); n > 0 {
					t.Errorf("%d operations are left", n)
				}
			})
		}
	}
}
