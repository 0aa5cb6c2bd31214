package session

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ndferry/store/dir"
	"ndferry/wire"
)

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

// TestLife has a PUT wait for its store, in every way: its peer hears of us every grantPause, by CREDIT or ACK, and nothing when it is we who wait, or
// when the PUT has ended.
func TestLife(t *testing.T) {
	st, err := dir.Open(filepath.Join(t.TempDir(), "store"), dir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r := newRig(t, st)
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
