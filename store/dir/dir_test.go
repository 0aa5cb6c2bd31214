package dir_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

func open(t testing.TB, path string, config dir.Config) *dir.Store {
	t.Helper()
	s, err := dir.Open(path, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir()+"/store", dir.Config{}) },
		storetest.Options{Durability: store.Durable, Resume: true})
}

func TestOpen(t *testing.T) {
	base := t.TempDir()
	if _, err := dir.Open(base+"/no/parent", dir.Config{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no parent: error %v", err)
	}
	if err := os.WriteFile(base+"/file", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Open(base+"/file", dir.Config{}); err == nil {
		t.Error("a file was opened as a store")
	}
	path := base + "/store"
	s := open(t, path, dir.Config{})
	_, err := dir.Open(path, dir.Config{})
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "pid") {
		t.Errorf("opened twice: error %v", err)
	}
	x := small(t, "a/x", 1)
	x.Put(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, dir.Config{})
	x.Check(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"/state/format", []byte("ndferry store 2\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Open(path, dir.Config{}); err == nil || !strings.Contains(err.Error(), "ndferry store 2") {
		t.Errorf("a store of another format: error %v", err)
	}
}

// TestReceipts ends the life of receipts, and damages their log.
func TestReceipts(t *testing.T) {
	path := t.TempDir()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	config := dir.Config{Now: func() time.Time { return now }, Log: quiet}
	s := open(t, path, config)
	x, y, z := small(t, "a/x", 1), small(t, "a/y", 2), small(t, "a/z", 3)
	want := x.Put(t, s)
	known := func(x *storetest.Sample) bool {
		t.Helper()
		u, r, err := s.Begin(t.Context(), x.Spec)
		if err != nil {
			t.Fatal(err)
		}
		if r != nil {
			return true
		}
		if err := u.Discard(); err != nil {
			t.Fatal(err)
		}
		return false
	}
	restart := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, config)
	}
	if err := s.Delete(t.Context(), "a/x"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(3 * 24 * time.Hour)
	restart()
	if _, r, err := s.Begin(t.Context(), x.Spec); err != nil || r == nil || *r != want {
		t.Fatalf("after a restart: receipt %+v, error %v, want %+v", r, err, want)
	}
	y.Put(t, s)
	now = now.Add(4*24*time.Hour + time.Second)
	restart()
	if known(x) || !known(y) {
		t.Errorf("after 7 days: x known %v, y known %v", known(x), known(y))
	}
	z.Put(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	log, err := os.ReadFile(path + "/state/receipts")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(log, []byte(`"a/y"`))
	for name, c := range map[string]struct {
		log        []byte
		y, z, copy bool
	}{
		"torn end":            {append(bytes.Clone(log), 1, 2, 3), true, true, false},
		"torn DONE":           {log[:len(log)-5], true, true, false}, // recovery finds z published
		"damaged in a record": {append(append(bytes.Clone(log[:at]), 'X'), log[at+1:]...), false, true, true},
		"no log":              {nil, false, false, false},
		"not a log":           {[]byte("garbage, garbage, garbage"), false, false, true},
	} {
		os.Remove(path + "/state/receipts.damaged")
		if c.log == nil {
			err = os.Remove(path + "/state/receipts")
		} else {
			err = os.WriteFile(path+"/state/receipts", c.log, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		s = open(t, path, config)
		if known(y) != c.y || known(z) != c.z {
			t.Errorf("%s: y known %v, z known %v", name, known(y), known(z))
		}
		if _, err := os.Stat(path + "/state/receipts.damaged"); (err == nil) != c.copy {
			t.Errorf("%s: a copy of the damaged log: %v", name, err == nil)
		}
		z.Check(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResumeAfterRestart takes an upload up in a new server, and begins again when its files are damaged.
func TestResumeAfterRestart(t *testing.T) {
	path := t.TempDir()
	x := small(t, "a/x", 1)
	x.Resume = true
	half := func() {
		s := open(t, path, dir.Config{})
		defer s.Close()
		u, _, err := s.Begin(t.Context(), x.Spec)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if len(u.Durable()) > 0 {
			return
		}
		if err := u.Write(t.Context(), x.Info[1], x.Cells[1]); err != nil {
			t.Fatal(err)
		}
		if err := u.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	uploads, err := filepath.Glob(path + "/state/uploads/*")
	if err != nil || len(uploads) > 0 {
		t.Fatal(uploads, err)
	}
	for name, damage := range map[string]func(string) error{
		"shard cut":     func(d string) error { return os.Truncate(d+"/c.0.0", 30) },
		"shard missing": func(d string) error { return os.Remove(d + "/c.0.0") },
		"journal cut":   func(d string) error { return os.Truncate(d+"/.ndferry", 100) },
		"journal gone":  func(d string) error { return os.Remove(d + "/.ndferry") },
	} {
		half()
		if uploads, _ = filepath.Glob(path + "/state/uploads/*"); len(uploads) != 1 {
			t.Fatalf("uploads %q", uploads)
		}
		if err := damage(uploads[0]); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, dir.Config{Log: quiet})
		u, _, err := s.Begin(t.Context(), x.Spec)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := u.Durable(); len(d) > 0 {
			t.Errorf("%s: durable %v", name, d)
		}
		u.Discard()
		s.Close()
	}
	half()
	s := open(t, path, dir.Config{})
	defer s.Close()
	u, _, err := s.Begin(t.Context(), x.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if d := u.Durable(); len(d) != 1 || d[0] != (store.Range{First: 1, Count: 1}) {
		t.Errorf("durable %v", d)
	}
	u.Close()
	x.Put(t, s)
	x.Check(t, s)
}

// TestForeignNodes puts things into the hierarchy that ndferry did not write: they are left alone, and arrays are served.
func TestForeignNodes(t *testing.T) {
	path := t.TempDir()
	s := open(t, path, dir.Config{})
	defer s.Close()
	small(t, "g/x", 1).Put(t, s)
	text := `{"zarr_format":3,"node_type":"array","shape":[1],"data_type":"uint8","chunk_grid":{"name":"regular","configuration":{"chunk_shape":[1]}},"chunk_key_encoding":{"name":"default"},"fill_value":0,"codecs":[{"name":"bytes"}]}`
	for name, content := range map[string]string{"g/theirs": text, "g/none": ""} {
		if err := os.MkdirAll(path+"/zarr/"+name+"/c/0", 0o777); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(path+"/zarr/"+name+"/zarr.json", []byte(content), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		a, err := s.Open(t.Context(), name)
		if content == "" && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Open %s: error %v", name, err)
		}
		if content != "" && (err != nil || a.Info().Digest != store.DigestNone) {
			t.Errorf("Open %s: %+v, error %v", name, a, err)
		}
		if err := s.Delete(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Delete %s: error %v", name, err)
		}
		for _, put := range []string{name, name + "/below"} {
			if _, err := small(t, put, 2).TryPut(t, s); !errors.Is(err, store.ErrConflict) {
				t.Errorf("put %s: error %v", put, err)
			}
		}
	}
	if err := os.WriteFile(path+"/zarr/file", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", path+"/zarr/link"); err != nil {
		t.Fatal(err)
	}
	for _, put := range []string{"file", "file/below", "link", "link/below"} {
		if _, err := small(t, put, 3).TryPut(t, s); err == nil {
			t.Errorf("put %s went", put)
		}
	}
	infos, _, err := s.List(t.Context(), "", "", 10)
	if err != nil || len(infos) != 2 || infos[0].Name != "g/theirs" || infos[1].Name != "g/x" {
		t.Errorf("listed %+v, error %v", infos, err)
	}
	// The group has members that are not ours, so it stays.
	if err := s.Delete(t.Context(), "g/x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "/zarr/g/theirs/zarr.json"); err != nil {
		t.Error(err)
	}
}

// TestOneDescriptorPerArray opens arrays of many cells.
func TestOneDescriptorPerArray(t *testing.T) {
	s := open(t, t.TempDir(), dir.Config{})
	defer s.Close()
	storetest.NewSample(t, "x", "|u1", array.Shape{1000}, array.Shape{1}, nil, "", 1).Put(t, s)
	before := len(storetest.Descriptors(t))
	for range 10 {
		a, err := s.Open(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		for i := range 1000 {
			if err := a.Read(t.Context(), i, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(storetest.Descriptors(t)) - before; n != 10 {
		t.Errorf("10 open arrays hold %d descriptors", n)
	}
}
