package client

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/wire"
)

// partRig fetches an array of ten cells of four bytes to a file, cell by cell.
type partRig struct {
	t    testing.TB
	st   *Stat
	grid array.Grid
	said []string
}

func newPartRig(t testing.TB) *partRig {
	d, err := array.ParseDType("|u1")
	if err != nil {
		t.Fatal(err)
	}
	g, err := array.NewGrid(array.Shape{38}, array.Shape{4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &partRig{t: t, grid: g, st: &Stat{Name: "a", ID: wire.ID{1}, DType: d, Shape: array.Shape{38}, Order: array.COrder(1), Chunks: array.Shape{4}, Digest: SHA256, Bytes: 38, Cells: 10}}
}

func (r *partRig) open(path string) (*NPYSink, [][32]byte) {
	r.t.Helper()
	s, err := ResumeNPY(path, ResumeOptions{Note: func(text string) { r.said = append(r.said, text) }})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.Begin(r.st, r.grid); err != nil {
		r.t.Fatal(err)
	}
	leaves := make([][32]byte, 10)
	s.keeps(leaves)
	return s, leaves
}

func (r *partRig) cell(s *NPYSink, leaves [][32]byte, i int) {
	r.t.Helper()
	data := []byte{byte(i), 1, 2, 3}
	leaves[i] = sum(data)
	if err := s.Cell(i, data); err != nil {
		r.t.Fatal(err)
	}
}

// kill leaves the files as a process that is killed leaves them, at another path, and returns that.
func (r *partRig) kill(s *NPYSink) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "a.npy")
	for _, suffix := range []string{"", ".state"} {
		b, err := os.ReadFile(partPath(s.path) + suffix)
		if err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(partPath(path)+suffix, b, 0o666); err != nil {
			r.t.Fatal(err)
		}
	}
	return path
}

// TestPartKilled kills a process between two checkpoints: what the last one named is kept, with its leaves, all of it is read again, and a torn
// end of the state is ignored.
func TestPartKilled(t *testing.T) {
	r := newPartRig(t)
	first, leaves := r.open(filepath.Join(t.TempDir(), "a.npy"))
	defer first.Close()
	now := time.Now()
	first.part.now = func() time.Time { return now }
	checkpoint := func(cells ...int) {
		for k, i := range cells {
			if k == len(cells)-1 {
				now = now.Add(partTime)
			}
			r.cell(first, leaves, i)
		}
		if err := first.part.wait(); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint(0, 1, 2)
	checkpoint(9, 5)
	r.cell(first, leaves, 7) // is in no checkpoint
	for _, c := range []struct{ cut, kept int }{{0, 5}, {1, 3}, {200, 0}} {
		path := r.kill(first)
		state := partPath(path) + ".state"
		info, err := os.Stat(state)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(state, info.Size()-int64(c.cut)); err != nil {
			t.Fatal(err)
		}
		r.said = nil
		s, again := r.open(path)
		if s.Kept() != c.kept {
			t.Errorf("state cut by %d: %d cells kept, want %d; %q", c.cut, s.Kept(), c.kept, r.said)
		}
		if c.kept > 0 && (again[1] != leaves[1] || !strings.Contains(strings.Join(r.said, ""), "all of them were read")) {
			t.Errorf("state cut by %d: leaf %x, %q", c.cut, again[1], r.said)
		}
		has := s.keeps(again)
		for i := range 10 {
			if !has(i) {
				r.cell(s, again, i)
			}
		}
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
		want := array.AppendNPYHeader(nil, r.st.DType, r.st.Shape, false)
		for i := range 10 {
			want = append(want, byte(i), 1, 2, 3)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want[:len(want)-2]) {
			t.Errorf("the file is %x, error %v", got, err)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || left != nil {
			t.Errorf("left behind: %v, error %v", left, err)
		}
	}
}

// TestPartOfAnotherArray opens what is left of an array for others: nothing is kept when anything of them differs.
func TestPartOfAnotherArray(t *testing.T) {
	r := newPartRig(t)
	for i, change := range []func(*Stat){
		func(st *Stat) { st.ID[0]++ }, func(st *Stat) { st.Name = "b" }, func(st *Stat) { st.Digest = CRC32C }, func(st *Stat) { st.Root = "00" },
		func(st *Stat) { st.Digest = "none" }, func(*Stat) {},
	} {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.npy", i))
		s, leaves := r.open(path)
		r.cell(s, leaves, 3)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		other := *r
		st := *r.st
		other.st = &st
		change(&st)
		s, _ = other.open(path)
		want := 0
		if i == 5 {
			want = 1
		}
		if s.Kept() != want {
			t.Errorf("change %d: %d cells kept", i, s.Kept())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
