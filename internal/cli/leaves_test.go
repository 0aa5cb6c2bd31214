package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLeaves keeps leaves and reads them again: what is damaged, torn, or of another transfer is not known.
func TestLeaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.leaves")
	known := func(id byte) (list []int) {
		l, err := openLeaves(path, [16]byte{id})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i := range 10 {
			if leaf, ok := l.Leaf(i); ok {
				if leaf != [32]byte{byte(i), 7} {
					t.Errorf("leaf %d is %x", i, leaf)
				}
				list = append(list, i)
			}
		}
		return list
	}
	write := func() {
		l, err := openLeaves(path, [16]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{3, 1, 4, 5} {
			l.Keep(i, [32]byte{byte(i), 7})
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if got := known(1); len(got) != 4 {
		t.Errorf("%v", got)
	}
	if err := os.Truncate(path, 16+3*leafEntry+5); err != nil {
		t.Fatal(err)
	}
	if got := known(1); len(got) != 3 {
		t.Errorf("torn: %v", got)
	}
	flip(t, path, 16+leafEntry+10)
	if got := known(1); len(got) != 1 || got[0] != 3 {
		t.Errorf("damaged: %v", got)
	}
	if got := known(2); got != nil {
		t.Errorf("of another transfer: %v", got)
	}
}
