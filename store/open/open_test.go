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

// TestShared opens a directory twice beside its lock, and refuses memory.
func TestShared(t *testing.T) {
	path := t.TempDir()
	lock, err := open.Lock(t.Context(), "dir:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := open.Open(t.Context(), path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second server: error %v", err)
	}
	for _, owner := range []string{"1", "2"} {
		s, err := open.Open(t.Context(), path, open.Shared(owner))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if _, err := open.Lock(t.Context(), "mem:"); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "memory lives in one process") {
		t.Errorf("Lock of memory: error %v", err)
	}
	if _, err := open.Open(t.Context(), "mem:", open.Shared("1")); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "memory lives in one process") {
		t.Errorf("memory, shared: error %v", err)
	}
}
