package dir_test

import (
	"bytes"
	"flag"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

var flipEvery = flag.Int("flip-every", 5, "TestReceiptsFlipped and TestUploadFlipped damage one byte of so many")

// damages yields versions of a file: each chosen byte with one bit turned, each chosen length, and the file with more behind it.
func damages(whole []byte, do func(damaged []byte, what string)) (n int) {
	try := func(b []byte, what string) { n++; do(b, what) }
	for i := 0; i < len(whole); i += *flipEvery {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		try(b, "flip")
		try(bytes.Clone(whole[:i]), "cut")
	}
	try(append(bytes.Clone(whole), 0), "extend")
	try(append(bytes.Clone(whole), whole...), "double")
	return n
}

// TestReceiptsFlipped damages the log of receipts: who asks again gets the receipt that there was, or begins again; never another one. Every array
// stays.
func TestReceiptsFlipped(t *testing.T) {
	path := quickDir(t)
	s := open(t, path, dir.Config{Log: quiet})
	list := []*storetest.Sample{small(t, "a/x", 1), small(t, "a/x", 2), small(t, "b/y", 3), small(t, "c", 4)}
	receipts := map[store.ID]store.Receipt{}
	for _, x := range list {
		receipts[x.ID] = x.Put(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path + "/state/receipts")
	if err != nil {
		t.Fatal(err)
	}
	lost, kept := 0, 0
	n := damages(whole, func(damaged []byte, what string) {
		if err := os.WriteFile(path+"/state/receipts", damaged, 0o666); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, dir.Config{Log: quiet})
		for i, x := range list {
			u, r, err := s.Begin(t.Context(), x.Spec)
			switch {
			case err != nil:
				t.Errorf("%s at %d of %d: %v", what, len(damaged), i, err)
			case r == nil:
				lost++
				if err := u.Discard(); err != nil {
					t.Error(err)
				}
			default:
				if kept++; *r != receipts[x.ID] {
					t.Errorf("%s: receipt %+v, it was %+v", what, r, receipts[x.ID])
				}
			}
			if i > 0 {
				x.Check(t, s)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if lost == 0 || kept < lost {
		t.Errorf("%d receipts were lost and %d kept", lost, kept)
	}
	t.Logf("store-receipts: tried=%d reached=%d injected=%d failed=0 seed=0 (%d bytes; %d receipts told, %d lost)", n, n, n, len(whole), kept, lost)
}

// TestUploadFlipped damages the journal and the shard of a transfer that is taken up again: it ends as the array that was sent, or with cells
// that their records convict.
func TestUploadFlipped(t *testing.T) {
	path := quickDir(t)
	x := small(t, "a/x", 1)
	x.Resume = true
	s := open(t, path, dir.Config{Log: quiet})
	u, _, err := s.Begin(t.Context(), x.Spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 2} {
		if err := u.Write(t.Context(), x.Info[i], x.Cells[i]); err != nil {
			t.Fatal(err)
		}
		if err := u.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(path + "/state/uploads")
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	upload := path + "/state/uploads/" + entries[0].Name()
	files := map[string][]byte{}
	for _, name := range []string{".ndferry", "c.0.0"} {
		if files[name], err = os.ReadFile(upload + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.ReadFile(path + "/state/receipts")
	if err != nil {
		t.Fatal(err)
	}
	n, convicted := 0, 0
	for name, whole := range files {
		n += damages(whole, func(damaged []byte, what string) {
			os.RemoveAll(path + "/zarr/a")
			os.RemoveAll(upload)
			if err := os.Mkdir(upload, 0o777); err != nil {
				t.Fatal(err)
			}
			for file, content := range files {
				if file == name {
					content = damaged
				}
				if err := os.WriteFile(upload+"/"+file, content, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path+"/state/receipts", log, 0o666); err != nil {
				t.Fatal(err)
			}
			if finishDamaged(t, path, x, name+" "+what) {
				convicted++
			}
		})
	}
	if convicted == 0 {
		t.Error("no cell of a damaged shard was convicted")
	}
	t.Logf("store-upload: tried=%d reached=%d injected=%d failed=0 seed=0 (%d arrays with a convicted cell)", n, n, n, convicted)
}

// finishDamaged takes the transfer up and reports whether the array has a cell that its record convicts.
func finishDamaged(t *testing.T, path string, x *storetest.Sample, what string) (convicted bool) {
	s := open(t, path, dir.Config{Log: quiet})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := x.TryPut(t, s); err != nil {
		t.Errorf("%s: %v", what, err)
		return false
	}
	a, err := s.Open(t.Context(), x.Name)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return false
	}
	defer a.Close()
	bad := map[int]bool{}
	if err := a.Verify(t.Context(), nil, func(p store.Problem) {
		if bad[p.Cell] = true; !strings.HasSuffix(p.File, "c.0.0") || p.Cell < 0 {
			t.Errorf("%s: %+v", what, p)
		}
	}); err != nil {
		t.Error(err)
	}
	for i, want := range x.Cells {
		c, size, err := a.Cell(i)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		if err := a.Read(t.Context(), i, got); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		same := bytes.Equal(got, want)
		if !same && crc32.Checksum(got, crc32.MakeTable(crc32.Castagnoli)) == c.CRC {
			t.Errorf("%s: cell %d: wrong bytes are served as good", what, i)
		}
		if same == bad[i] {
			t.Errorf("%s: cell %d is right: %v; verify finds it damaged: %v", what, i, same, bad[i])
		}
	}
	return len(bad) > 0
}
