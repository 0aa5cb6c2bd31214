package dir_test

import (
	"strings"
	"testing"

	"ndferry/store"
	"ndferry/store/dir"
)

// TestRelaxed puts without waiting for the disk: no sync is asked for, the receipt says so, and the array is there.
func TestRelaxed(t *testing.T) {
	path := quickDir(t)
	script := newScript(t, path)
	s := open(t, path, dir.Config{FS: script})
	small(t, "a/durable", 1).Put(t, s)
	syncs := func() (n int) {
		for _, c := range script.changes() {
			if strings.HasPrefix(c, "sync") {
				n++
			}
		}
		return n
	}
	if n := syncs(); n < 5 {
		t.Fatalf("a durable put: %d syncs among %q", n, script.changes())
	}
	script.reset()
	x := small(t, "a/relaxed", 2)
	x.Relaxed = true
	for range 2 { // the second one replaces
		r, err := x.TryPut(t, s)
		if err != nil || r.Durability != store.Relaxed {
			t.Fatalf("receipt %+v, error %v", r, err)
		}
		x.ID[0]++
	}
	if n := syncs(); n > 0 {
		t.Errorf("a relaxed put: %d syncs among %q", n, script.changes())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, dir.Config{})
	defer s.Close()
	a, err := s.Open(t.Context(), x.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if d := a.Info().Receipt.Durability; d != store.Relaxed {
		t.Errorf("durability %q after a restart", d)
	}
	x.ID[0]--
	x.CheckArray(t, a)
}
