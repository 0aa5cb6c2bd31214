package session

import (
	"path/filepath"
	"strings"
	"testing"

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
