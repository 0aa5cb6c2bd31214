package dir_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

// mount mounts a tmpfs, and fails the test when it cannot.
func mount(t *testing.T, path, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a tmpfs at %s (this test needs root): %v", path, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(path, 0); err != nil {
			t.Errorf("unmount %s: %v", path, err)
		}
	})
}

func TestTwoFileSystems(t *testing.T) {
	path := t.TempDir()
	if err := os.Mkdir(path+"/zarr", 0o777); err != nil {
		t.Fatal(err)
	}
	mount(t, path+"/zarr", "size=1m")
	if _, err := dir.Open(path, dir.Config{}); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "different file systems") {
		t.Errorf("error %v", err)
	}
}

// TestFullDisk fills a small file system: no space is said at the beginning, others go on, and deleting helps at once.
func TestFullDisk(t *testing.T) {
	path := t.TempDir()
	mount(t, path, "size=4m")
	s := open(t, path, dir.Config{})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	mib := func(name string, n int, seed uint64) *storetest.Sample {
		return storetest.NewSample(t, name, "|u1", array.Shape{n << 20}, array.Shape{1 << 18}, nil, "", seed)
	}
	a := mib("a", 2, 1)
	a.Put(t, s)
	u, _, err := s.Begin(t.Context(), mib("b", 1, 2).Spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, _, err = s.Begin(t.Context(), mib("c", 3, 3).Spec)
		if !errors.Is(err, store.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v", err)
		}
	}
	// The one that began before has its space.
	b := mib("b", 1, 2)
	for i, data := range b.Cells {
		if err := u.Write(t.Context(), b.Info[i], data); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := u.Commit(t.Context(), b.Root); err != nil {
		t.Fatal(err)
	}
	b.Check(t, s)
	a.Check(t, s)
	for round := range 5 {
		if err := s.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		a = mib("a", 2, uint64(10+round))
		a.Put(t, s)
		a.Check(t, s)
	}
}

// TestNoInodes fills a file system with files.
func TestNoInodes(t *testing.T) {
	path := t.TempDir()
	mount(t, path, "size=4m,nr_inodes=40")
	s := open(t, path, dir.Config{})
	defer s.Close()
	var err error
	n := 0
	for ; err == nil && n < 40; n++ {
		_, err = small(t, "g/x"+strings.Repeat("x", n), uint64(n)).TryPut(t, s)
	}
	if !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("after %d arrays: error %v", n, err)
	}
	if err := s.Delete(t.Context(), "g/x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "g/xx"); err != nil {
		t.Fatal(err)
	}
	x := small(t, "g/again", 99)
	x.Put(t, s)
	x.Check(t, s)
}

// TestReadOnly makes the file system read-only under an open store.
func TestReadOnly(t *testing.T) {
	path := t.TempDir()
	mount(t, path, "size=4m")
	s := open(t, path, dir.Config{Log: quiet})
	x := small(t, "a/x", 1)
	x.Put(t, s)
	// The lock and the log are open for writing, so only a read-only bind mount can be made.
	ro := t.TempDir()
	if err := syscall.Mount(path, ro, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(ro, 0)
	if err := syscall.Mount("", ro, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Open(ro, dir.Config{}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open: error %v", err)
	}
	// Read-only from one call on: what is there is still served.
	script := newScript(t, path)
	s = open(t, path, dir.Config{FS: script, Log: quiet})
	script.refuseChanges(syscall.EROFS)
	if _, err := small(t, "a/y", 2).TryPut(t, s); !errors.Is(err, syscall.EROFS) {
		t.Errorf("put: error %v", err)
	}
	if err := s.Delete(t.Context(), "a/x"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("delete: error %v", err)
	}
	x.Check(t, s)
	script.refuseChanges(nil)
	small(t, "a/y", 2).Put(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
