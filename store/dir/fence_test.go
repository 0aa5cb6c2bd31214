package dir_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"ndferry/store"
	"ndferry/store/dir"
)

// forgetfulFS is a file system that loses the locks on journals, as one on a network may.
type forgetfulFS struct{ dir.FS }

func (f forgetfulFS) Create(p string) (dir.File, error) { return forget(p)(f.FS.Create(p)) }
func (f forgetfulFS) OpenFile(p string, w bool) (dir.File, error) {
	return forget(p)(f.FS.OpenFile(p, w))
}

func forget(p string) func(dir.File, error) (dir.File, error) {
	return func(f dir.File, err error) (dir.File, error) {
		if err == nil && strings.HasSuffix(p, ".ndferry") {
			f = forgetfulFile{f}
		}
		return f, err
	}
}

type forgetfulFile struct{ dir.File }

func (forgetfulFile) Lock(dir.LockMode) error { return nil }

// TestFenced takes a transfer from a process that believes to have it: that one gets an error at its next checkpoint and at its commit, and
// publishes nothing.
func TestFenced(t *testing.T) {
	for _, late := range []string{"checkpoint", "commit"} {
		t.Run(late, func(t *testing.T) {
			path := quickDir(t)
			open := func(owner string) *dir.Store {
				o, err := dir.NewOS(path)
				if err != nil {
					t.Fatal(err)
				}
				return open(t, path, dir.Config{Shared: true, Owner: owner, FS: forgetfulFS{o}, Log: quiet})
			}
			a, b := open("a"), open("b")
			defer a.Close()
			defer b.Close()
			x := small(t, "g/x", 1)
			x.Resume = true
			u, _, err := a.Begin(t.Context(), x.Spec)
			if err != nil {
				t.Fatal(err)
			}
			for i, cell := range x.Cells {
				if i == 2 {
					if err := u.Sync(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := u.Write(t.Context(), x.Info[i], cell); err != nil {
					t.Fatal(err)
				}
			}
			v, _, err := b.Begin(t.Context(), x.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if late == "checkpoint" {
				err = u.Sync(t.Context())
			} else {
				_, err = u.Commit(t.Context(), x.Root)
			}
			if o, ok := errors.AsType[*store.OwnedError](err); !ok || o.Owner != "b" || o.Epoch != 2 {
				t.Errorf("%s of the process that was overtaken: %v", late, err)
			}
			u.Close()
			if _, err := a.Open(t.Context(), x.Name); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("it was published: %v", err)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			x.Put(t, b)
			x.Check(t, a)
		})
	}
}

// momentFS does something else in the middle of a commit.
type momentFS struct {
	dir.FS
	at   string // the directory that is synced then
	then func()
}

func (f *momentFS) SyncDir(p string) error {
	err := f.FS.SyncDir(p)
	if p == f.at && f.then != nil {
		then := f.then
		f.then = nil
		then()
	}
	return err
}

// TestIfAbsentOvertaken gives the name to another array when a put-if-absent has found it free and is about to take it.
func TestIfAbsentOvertaken(t *testing.T) {
	path := quickDir(t)
	o, err := dir.NewOS(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &momentFS{FS: o}
	s := open(t, path, dir.Config{FS: f, Log: quiet})
	defer s.Close()
	x, y := small(t, "g/x", 1), small(t, "g/x", 2)
	x.IfAbsent, y.IfAbsent = true, true
	f.at = fmt.Sprintf("state/uploads/%x", x.ID[:]) // the last step before the name
	f.then = func() { y.Put(t, s) }
	if _, err := x.TryPut(t, s); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the one that came second: %v", err)
	}
	if f.then != nil {
		t.Error("the moment did not come")
	}
	y.Check(t, s)
}

// onceFS lets the next Sync of a journal fail.
type onceFS struct {
	dir.FS
	fail *error
}

func (f onceFS) OpenFile(p string, w bool) (dir.File, error) {
	file, err := f.FS.OpenFile(p, w)
	if err == nil && strings.HasSuffix(p, ".ndferry") {
		file = onceFile{file, f.fail}
	}
	return file, err
}

type onceFile struct {
	dir.File
	fail *error
}

func (f onceFile) Sync() error {
	if err := *f.fail; err != nil {
		*f.fail = nil
		return err
	}
	return f.File.Sync()
}

// TestFailedSyncOfReopened takes a transfer up whose journal cannot be made durable then. A later sync would succeed and mean nothing, so
// nothing of the transfer is called durable any more.
func TestFailedSyncOfReopened(t *testing.T) {
	path := quickDir(t)
	o, err := dir.NewOS(path)
	if err != nil {
		t.Fatal(err)
	}
	var fail error
	s := open(t, path, dir.Config{FS: onceFS{o, &fail}, Log: quiet})
	defer s.Close()
	x := small(t, "a/x", 1)
	x.Resume = true
	u, _, err := s.Begin(t.Context(), x.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(u.Write(t.Context(), x.Info[0], x.Cells[0]), u.Sync(t.Context()), u.Close()); err != nil {
		t.Fatal(err)
	}
	fail = syscall.EIO
	if _, _, err := s.Begin(t.Context(), x.Spec); !errors.Is(err, syscall.EIO) {
		t.Errorf("Begin: %v", err)
	}
	if u, _, err = s.Begin(t.Context(), x.Spec); err != nil {
		t.Fatal(err)
	}
	if d := u.Durable(); len(d) > 0 {
		t.Errorf("durable %v after a sync that failed", d)
	}
	if err := u.Discard(); err != nil {
		t.Error(err)
	}
	x.Put(t, s)
	x.Check(t, s)
}
