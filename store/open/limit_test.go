package open_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"ndferry/store"
	"ndferry/store/open"
)

func TestOpen_limits(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{
		filepath.Join(dir, "a"), "dir:" + filepath.Join(dir, "b"), "file://" + filepath.Join(dir, "c"), "file://localhost" + filepath.Join(dir, "d"),
		filepath.Join(dir, "with:colon"), "mem:", "mem://", "MEM:", "mem:?limit=1048576",
	} {
		s, err := open.Open(context.Background(), text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Errorf("%q: close: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "dir:", "file://host/a", "file://relative", "file:///a?b=c", "s3x://bucket", "mem:x", "mem:?limit=", "mem:?limit=0",
		"mem:?limit=-1", "mem:?limit=1GiB", "mem:?limit=9223372036854775808", "mem:?size=1",
	} {
		if s, err := open.Open(context.Background(), text); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: %v, %v; want ErrInvalid", text, s, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := open.Open(ctx, "mem:"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
