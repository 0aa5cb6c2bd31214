package open_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/mem"
	"ndferry/store/open"
)

func TestOpen(t *testing.T) {
	base := t.TempDir()
	t.Chdir(base)
	for _, c := range []struct{ text, made string }{
		{"mem:", ""},
		{"mem://", ""},
		{"MEM:", ""},
		{base + "/a", "a"},
		{"b", "b"},
		{"./c:d", "c:d"},
		{"dir:e", "e"},
		{"dir:" + base + "/f", "f"},
		{"file://" + base + "/g", "g"},
		{"file://localhost" + base + "/h%20i", "h i"},
		{"file:" + base + "/j", "j"},
	} {
		s, err := open.Open(t.Context(), c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		_, isDir := s.(*dir.Store)
		_, isMem := s.(*mem.Store)
		if isDir != (c.made != "") || isMem == isDir {
			t.Errorf("%s: opened a %T", c.text, s)
		}
		if _, err := os.Stat(base + "/" + c.made + "/state"); isDir && err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	for _, text := range []string{"", "s3://bucket/x", "http://x", "mem:x", "mem:/x", "dir:", "file://host/x", "file:x", "file:///x?y=z"} {
		s, err := open.Open(t.Context(), text)
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "a store is a path, dir:PATH, file:///PATH, mem:") {
			t.Errorf("%q: store %v, error %v", text, s, err)
		}
	}
}
