package dir_test

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"ndferry/store"
	"ndferry/store/dir"
)

// quotaFS is a file system over its quota, as btrfs is: all that takes space fails, a rename too, and what is removed gives it back.
type quotaFS struct {
	dir.FS
	over atomic.Bool
}

func (q *quotaFS) Rename(from, to string, mode dir.RenameMode) error {
	if q.over.Load() {
		return syscall.EDQUOT
	}
	return q.FS.Rename(from, to, mode)
}

func (q *quotaFS) Mkdir(p string) error {
	if q.over.Load() {
		return syscall.EDQUOT
	}
	return q.FS.Mkdir(p)
}

// TestOverQuota discards an upload that cannot be moved to the trash: the space of its cells is free, and its id begins again.
func TestOverQuota(t *testing.T) {
	path := quickDir(t)
	real, err := dir.NewOS(path)
	if err != nil {
		t.Fatal(err)
	}
	fs := &quotaFS{FS: real}
	s := open(t, path, dir.Config{FS: fs, Log: quiet})
	defer s.Close()
	x := small(t, "a/x", 1)
	x.Resume = true
	u, _, err := s.Begin(t.Context(), x.Spec)
	if err == nil {
		err = errors.Join(u.Write(t.Context(), x.Info[0], x.Cells[0]), u.Sync(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
	fs.over.Store(true)
	if err := u.Discard(); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Discard: error %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(path, "state", "uploads", "*", "c.*")); len(left) > 0 {
		t.Errorf("%q still takes its space", left)
	}
	fs.over.Store(false)
	if u, _, err = s.Begin(t.Context(), x.Spec); err != nil {
		t.Fatal(err)
	}
	if d := u.Durable(); len(d) > 0 {
		t.Errorf("durable %v of cells that were thrown away", d)
	}
	if err := u.Discard(); err != nil {
		t.Error(err)
	}
	x.Put(t, s)
	x.Check(t, s)
}
