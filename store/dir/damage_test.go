package dir_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

// patient is a store with one array, whose files are damaged and restored.
type patient struct {
	t     testing.TB
	s     *dir.Store
	x     *storetest.Sample
	node  string
	files map[string][]byte
}

func newPatient(t testing.TB, x *storetest.Sample) *patient {
	t.Helper()
	path, err := os.MkdirTemp(quickBase(t), "ndferry-test-")
	if err != nil {
		t.Fatal(err)
	}
	p := &patient{t: t, s: open(t, path, dir.Config{Log: quiet}), x: x, node: path + "/zarr/" + x.Name, files: map[string][]byte{}}
	t.Cleanup(func() {
		if err := p.s.Close(); err != nil {
			t.Error(err)
		}
		os.RemoveAll(path)
	})
	x.Put(t, p.s)
	entries, err := os.ReadDir(p.node)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if p.files[e.Name()], err = os.ReadFile(p.node + "/" + e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// diagnose opens and verifies, and returns what was found wrong; "" when nothing was. It fails the test when a cell has other
// bytes than were put and nobody can tell.
func (p *patient) diagnose() string {
	p.t.Helper()
	a, err := p.s.Open(p.t.Context(), p.x.Name)
	if err != nil {
		return err.Error()
	}
	defer a.Close()
	var found []string
	err = a.Verify(p.t.Context(), nil, func(q store.Problem) {
		found = append(found, fmt.Sprintf("%s cell %d: %s", q.File, q.Cell, q.Text))
	})
	if err != nil {
		p.t.Fatalf("Verify: %v", err)
	}
	for i, want := range p.x.Cells {
		c, n, err := a.Cell(i)
		if err != nil {
			p.t.Fatal(err)
		}
		got := make([]byte, n)
		if err := a.Read(p.t.Context(), i, got); err != nil {
			continue
		}
		// Who gets the cell gets its recorded CRC too.
		if crc32.Checksum(got, crc32.MakeTable(crc32.Castagnoli)) == c.CRC && string(got) != string(want) {
			p.t.Errorf("cell %d: wrong bytes are served as good", i)
		}
	}
	return strings.Join(found, "; ")
}

func (p *patient) with(file string, content []byte, do func()) {
	p.t.Helper()
	if err := os.WriteFile(p.node+"/"+file, content, 0o666); err != nil {
		p.t.Fatal(err)
	}
	do()
	if err := os.WriteFile(p.node+"/"+file, p.files[file], 0o666); err != nil {
		p.t.Fatal(err)
	}
}

// TestEveryBitFlipped damages every bit of every file of a node, swaps any two words that are neighbours, and cuts and extends every file at every
// length.
func TestEveryBitFlipped(t *testing.T) {
	p := newPatient(t, storetest.NewSample(t, "d/x", "<i2", array.Shape{5, 4}, array.Shape{2, 4}, nil, store.DigestSHA256, 1))
	flips, cuts, swaps := 0, 0, 0
	for file, content := range p.files {
		for bit := range 8 * len(content) {
			damaged := append([]byte(nil), content...)
			damaged[bit/8] ^= 1 << (bit % 8)
			p.with(file, damaged, func() {
				flips++
				found := p.diagnose()
				if !strings.Contains(found, "d/x/"+file) {
					t.Errorf("bit %d of %s flipped: found %q", bit, file, found)
				}
				if want := fmt.Sprintf("cell %d:", bit/8/16); file == "c.0.0" && bit/8 < 48 && !strings.Contains(found, want) {
					t.Errorf("bit %d of %s flipped: found %q, want %q", bit, file, found, want)
				}
			})
		}
		for n := range len(content) {
			p.with(file, content[:n], func() {
				cuts++
				if found := p.diagnose(); !strings.Contains(found, "d/x/"+file) {
					t.Errorf("%s cut at %d: found %q", file, n, found)
				}
			})
		}
		p.with(file, append(append([]byte(nil), content...), 0), func() {
			if found := p.diagnose(); !strings.Contains(found, "d/x/"+file) {
				t.Errorf("%s extended: found %q", file, found)
			}
		})
		for i := 0; i+3 < len(content); i++ { // two words change places
			swapped := append([]byte(nil), content...)
			copy(swapped[i:], content[i+2:i+4])
			copy(swapped[i+2:], content[i:i+2])
			if string(swapped) == string(content) {
				continue
			}
			p.with(file, swapped, func() {
				swaps++
				if found := p.diagnose(); !strings.Contains(found, "d/x/"+file) {
					t.Errorf("%s, words at %d swapped: found %q", file, i, found)
				}
			})
		}
		if err := os.Remove(p.node + "/" + file); err != nil {
			t.Fatal(err)
		}
		if found := p.diagnose(); found == "" {
			t.Errorf("%s removed: nothing found", file)
		}
		p.with(file, content, func() {})
	}
	if found := p.diagnose(); found != "" {
		t.Errorf("the restored node: %s", found)
	}
	shard := append([]byte(nil), p.files["c.0.0"]...) // two whole cells
	copy(shard, p.files["c.0.0"][16:32])
	copy(shard[16:], p.files["c.0.0"][:16])
	p.with("c.0.0", shard, func() {
		if found := p.diagnose(); !strings.Contains(found, "cell 0:") || !strings.Contains(found, "cell 1:") || strings.Contains(found, "cell 2:") {
			t.Errorf("cells 0 and 1 swapped: found %q", found)
		}
	})
	n := flips + cuts + swaps
	t.Logf("store-flips: tried=%d reached=%d injected=%d failed=0 seed=0 (%d bits, %d lengths, %d swaps)", n, n, n, flips, cuts, swaps)
}

func TestForeignFileInNode(t *testing.T) {
	p := newPatient(t, small(t, "d/x", 1))
	if err := os.WriteFile(p.node+"/notes.txt", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if found := p.diagnose(); !strings.Contains(found, "zarr/d/x/notes.txt") {
		t.Errorf("found %q", found)
	}
}

// TestSwappedNodes exchanges two arrays by other means than the store: neither is served under the other's name.
func TestSwappedNodes(t *testing.T) {
	p := newPatient(t, small(t, "d/x", 1))
	small(t, "d/y", 2).Put(t, p.s)
	for _, r := range [][2]string{{"x", "z"}, {"y", "x"}, {"z", "y"}} {
		if err := os.Rename(p.node[:len(p.node)-1]+r[0], p.node[:len(p.node)-1]+r[1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"d/x", "d/y"} {
		_, err := p.s.Open(t.Context(), name)
		if !errors.Is(err, store.ErrIntegrity) || !strings.Contains(err.Error(), name+"/.ndferry") {
			t.Errorf("%s: error %v", name, err)
		}
		// It can still be removed.
		if err := p.s.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenDamagedWhileServing damages the shard of an array that is open: reads fail or carry the CRC that convicts them.
func TestOpenDamagedWhileServing(t *testing.T) {
	p := newPatient(t, small(t, "d/x", 1))
	a, err := p.s.Open(t.Context(), "d/x")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := os.Truncate(p.node+"/c.0.0", 20); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if err := a.Read(t.Context(), 0, buf); err != nil {
		t.Errorf("cell 0 is there: %v", err)
	}
	if err := a.Read(t.Context(), 1, buf); !errors.Is(err, store.ErrIntegrity) || !strings.Contains(err.Error(), "d/x/c.0.0") {
		t.Errorf("cell 1 is cut off: error %v", err)
	}
	problems := 0
	if err := a.Verify(t.Context(), nil, func(store.Problem) { problems++ }); err != nil || problems < 3 {
		t.Errorf("%d problems, error %v", problems, err)
	}
}

func TestListLeavesDamagedOut(t *testing.T) {
	p := newPatient(t, small(t, "d/x", 1))
	small(t, "d/y", 2).Put(t, p.s)
	for _, content := range []string{"", "garbage that is long enough for a preamble", string(p.files[".ndferry"][:100])} {
		p.with(".ndferry", []byte(content), func() {
			infos, more, err := p.s.List(t.Context(), "", "", 10)
			if err != nil || more || len(infos) != 1 || infos[0].Name != "d/y" {
				t.Errorf("listed %+v, more %v, error %v", infos, more, err)
			}
		})
	}
}

// TestNewerVersion gives the store a sidecar of a version to come.
func TestNewerVersion(t *testing.T) {
	p := newPatient(t, small(t, "d/x", 1))
	p.with(".ndferry", newer(p.files[".ndferry"]), func() {
		_, err := p.s.Open(t.Context(), "d/x")
		if err == nil || errors.Is(err, store.ErrIntegrity) || !strings.Contains(err.Error(), ".ndferry has format version 2 and this program reads version 1") {
			t.Errorf("error %v", err)
		}
	})
}

// newer is a file of records with version 2 in its preamble.
func newer(content []byte) []byte {
	b := bytes.Clone(content)
	b[8] = 2
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[:12], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// TestNewerStore opens a store of which a file is of a newer version: the error names it, and the file stays what it is.
func TestNewerStore(t *testing.T) {
	x := small(t, "a/x", 1)
	x.Resume = true
	for _, c := range []struct {
		file string
		to   func([]byte) []byte
		says string
	}{
		{"state/format", func([]byte) []byte { return []byte("ndferry store 2\n") }, `says "ndferry store 2\n" and this program knows "ndferry store 1\n"`},
		{"state/receipts", newer, "receipts has format version 2 and this program reads version 1"},
		{fmt.Sprintf("state/uploads/%x/.ndferry", x.ID[:]), newer, ".ndferry has format version 2 and this program reads version 1"},
	} {
		t.Run(c.file, func(t *testing.T) {
			path := t.TempDir() + "/store"
			s := open(t, path, dir.Config{Log: quiet})
			small(t, "a/y", 2).Put(t, s)
			u, _, err := s.Begin(t.Context(), x.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(u.Write(t.Context(), x.Info[1], x.Cells[1]), u.Sync(t.Context()), u.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path + "/" + c.file)
			if err != nil {
				t.Fatal(err)
			}
			content = c.to(content)
			if err := os.WriteFile(path+"/"+c.file, content, 0o666); err != nil {
				t.Fatal(err)
			}
			s, err = dir.Open(path, dir.Config{Log: quiet})
			if err == nil {
				_, _, err = s.Begin(t.Context(), x.Spec)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if err == nil || errors.Is(err, store.ErrIntegrity) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v", err)
			}
			if left, err := os.ReadFile(path + "/" + c.file); err != nil || !bytes.Equal(left, content) {
				t.Errorf("the file was changed, error %v", err)
			}
		})
	}
}

func FuzzOpenNode(f *testing.F) {
	p := newPatient(f, storetest.NewSample(f, "f/x", "<i2", array.Shape{5, 4}, array.Shape{2, 4}, nil, store.DigestSHA256, 1))
	names := []string{".ndferry", "zarr.json", "c.0.0"}
	f.Add(uint8(0), uint16(0), uint16(0xffff), []byte{})
	f.Add(uint8(0), uint16(20), uint16(0xffff), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint8(1), uint16(2), uint16(30), []byte("x"))
	f.Add(uint8(2), uint16(50), uint16(0xffff), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, file uint8, off, cut uint16, patch []byte) {
		p.t = t
		name := names[int(file)%len(names)]
		content := append([]byte(nil), p.files[name]...)
		content = content[:min(len(content), int(cut))]
		at := min(len(content), int(off))
		content = append(content[:at], append(append([]byte(nil), patch...), content[min(len(content), at+len(patch)):]...)...)
		p.with(name, content, func() {
			found := p.diagnose()
			if same := string(content) == string(p.files[name]); same != (found == "") {
				t.Errorf("%s differs: %v, found %q", name, !same, found)
			}
		})
	})
}
