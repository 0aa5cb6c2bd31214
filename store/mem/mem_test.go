package mem_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/mem"
	"ndferry/store/storetest"
)

func TestStore(t *testing.T) {
	for name, config := range map[string]mem.Config{"pool": {}, "no pool": {Pool: -1}} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(*testing.T) store.Store { return mem.New(config) }, storetest.Options{Resume: true})
		})
	}
}

// large makes an array of n cells of 64 KiB, which lies in a mapping.
func large(t testing.TB, name string, n int, seed uint64) *storetest.Sample {
	return storetest.NewSample(t, name, "|u1", array.Shape{n << 16}, array.Shape{1 << 16}, nil, "", seed)
}

func memfds(t testing.TB) int {
	n := 0
	for _, d := range storetest.Descriptors(t) {
		if strings.Contains(d, "memfd:ndferry") {
			n++
		}
	}
	return n
}

func TestLimit(t *testing.T) {
	s := mem.New(mem.Config{Limit: 2 << 20})
	defer s.Close()
	a := large(t, "a", 16, 1)
	a.Put(t, s)
	for range 3 {
		if _, _, err := s.Begin(t.Context(), large(t, "b", 16, 2).Spec); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("error %v", err)
		}
	}
	reader, err := s.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	// A reader keeps it, so it counts.
	if _, _, err := s.Begin(t.Context(), large(t, "b", 16, 2).Spec); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("error %v", err)
	}
	reader.Close()
	reader.Close()
	for i := range 20 { // what is given up is free again
		u, _, err := s.Begin(t.Context(), large(t, "b", 24, uint64(10+i)).Spec)
		if err != nil {
			t.Fatal(err)
		}
		u.Discard()
	}
	many := storetest.NewSample(t, "many", "|u1", array.Shape{1 << 16}, array.Shape{1}, nil, "", 1)
	if _, _, err := s.Begin(t.Context(), many.Spec); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("cells do not count: error %v", err)
	}
	large(t, "c", 24, 3).Put(t, s)
}

// TestPool counts the mappings that are made and kept.
func TestPool(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("mappings are counted by their memfd")
		return
	}
	before := memfds(t)
	s := mem.New(mem.Config{Limit: 1 << 30, Pool: 4 << 20})
	want := func(what string, n int) {
		t.Helper()
		if got := memfds(t) - before; got != n {
			t.Errorf("%s: %d mappings, want %d", what, got, n)
		}
	}
	small := storetest.NewSample(t, "small", "|u1", array.Shape{1000}, nil, nil, "", 1)
	small.Put(t, s)
	want("a small array", 0)
	for i := range 5 {
		x := large(t, "a", 16, uint64(i))
		x.Put(t, s)
		x.Check(t, s)
	}
	want("5 replacements", 2) // one at the name, one that is reused
	large(t, "b", 9, 1).Put(t, s)
	want("an array of about the size", 2)
	large(t, "c", 3, 1).Put(t, s)
	want("an array of quite another size", 3)
	for _, name := range []string{"a", "b", "c"} {
		if err := s.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	want("all deleted", 3)
	large(t, "d", 64, 1).Put(t, s)
	want("a large array", 4)
	if err := s.Delete(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	want("a large array deleted, which fills the pool", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want("closed", 0)
}

// TestIdleGoesBack keeps a mapping for a minute, less when memory is short or arrays need it.
func TestIdleGoesBack(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("mappings are counted by their memfd")
		return
	}
	for _, c := range []struct {
		name      string
		available int64
		after     time.Duration
		want      int
	}{
		{"soon", 1 << 40, 59 * time.Second, 1},
		{"late", 1 << 40, 61 * time.Second, 0},
		{"short of memory", 1 << 20, time.Second, 0},
		{"not told what there is", 0, 59 * time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := memfds(t)
				s := mem.New(mem.Config{Limit: 8 << 20, Available: func() int64 { return c.available }})
				defer s.Close()
				for i := range 2 {
					large(t, "a", 16, uint64(i)).Put(t, s)
				}
				if got := memfds(t) - before; got != 2 {
					t.Fatalf("%d mappings after a replacement, want 2", got)
				}
				time.Sleep(c.after)
				synctest.Wait()
				if got := memfds(t) - before; got != 1+c.want {
					t.Errorf("%d mappings after %v, want %d", got, c.after, 1+c.want)
				}
				x := large(t, "a", 16, 5)
				x.Put(t, s)
				x.Check(t, s)
			})
		})
	}
}

// TestPoolMakesRoom fills a store whose pool holds most of its limit with arrays that are not mappings.
func TestPoolMakesRoom(t *testing.T) {
	before := storetest.Descriptors(t)
	s := mem.New(mem.Config{Limit: 2 << 20, Pool: 2 << 20})
	defer s.Close()
	large(t, "a", 24, 1).Put(t, s)
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		storetest.NewSample(t, fmt.Sprint("small", i), "|u1", array.Shape{60000}, nil, nil, "", 1).Put(t, s)
	}
	if after := storetest.Descriptors(t); len(after) != len(before) {
		t.Errorf("1.2 MB of 2 MiB are in use and the pool keeps 1.5 MiB: %d descriptors, before %d", len(after), len(before))
	}
}

// TestNoOldBytes reuses memory that was full of a canary: nothing of it is in an array, in its padding or in the rest of its pages.
func TestNoOldBytes(t *testing.T) {
	canary := []byte("canary: an old array's secret! ")
	s := mem.New(mem.Config{})
	defer s.Close()
	fill := func() {
		x := large(t, "old", 16, 1)
		for _, c := range x.Cells {
			for i := range c {
				c[i] = canary[i%len(canary)]
			}
		}
		u, _, err := s.Begin(t.Context(), x.Spec)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range x.Cells {
			if err := u.Write(t.Context(), x.Info[i], c); err != nil {
				t.Fatal(err)
			}
		}
		// An upload that is given up leaves its bytes too.
		if err := u.Discard(); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct{ n, cell int }{{1 << 20, 1 << 16}, {1<<20 - 70000, 1 << 16}, {700_001, 50_003}, {600_000, 100}} {
		fill()
		x := storetest.NewSample(t, "new", "|u1", array.Shape{c.n}, array.Shape{c.cell}, nil, "", uint64(100+i))
		u, _, err := s.Begin(t.Context(), x.Spec)
		if err != nil {
			t.Fatal(err)
		}
		// Before the commit there is nothing to read.
		if _, err := s.Open(t.Context(), "new"); i == 0 && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("before the commit: error %v", err)
		}
		for k, data := range x.Cells[1:] {
			if err := u.Write(t.Context(), x.Info[k+1], data); err != nil {
				t.Fatal(err)
			}
		}
		// With one cell missing the old bytes could show: no commit.
		half, _, err := s.Begin(t.Context(), large(t, "half", 16, uint64(i)).Spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := half.Commit(t.Context(), [32]byte{}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("commit without cells: error %v", err)
		}
		if err := u.Write(t.Context(), x.Info[0], x.Cells[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Commit(t.Context(), x.Root); err != nil {
			t.Fatal(err)
		}
		x.Check(t, s)
		a, err := s.Open(t.Context(), "new")
		if err != nil {
			t.Fatal(err)
		}
		first, last := a.(store.Viewer).View(0), a.(store.Viewer).View(len(x.Cells)-1)
		if cap(first) != len(first) || cap(last) != len(last) {
			t.Errorf("a view reaches over its cell")
		}
		for _, m := range mappings(t) {
			if bytes.Contains(m, canary) && len(m) == (len(x.Cells)*c.cell+4095)/4096*4096 {
				t.Errorf("the memfd of %d cells of %d bytes holds old bytes", len(x.Cells), c.cell)
			}
		}
		a.Close()
	}
}

// mappings returns what the memfds of this process hold: what a descriptor would tell another process.
func mappings(t *testing.T) [][]byte {
	t.Helper()
	if runtime.GOOS != "linux" {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var found [][]byte
	for _, e := range entries {
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if !strings.Contains(to, "memfd:ndferry") {
			continue
		}
		content, err := os.ReadFile("/proc/self/fd/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, content)
	}
	if len(found) == 0 {
		t.Fatal("no memfd found")
	}
	return found
}

func TestReceiptsEnd(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := mem.New(mem.Config{Now: func() time.Time { return now }})
	defer s.Close()
	x := large(t, "x", 1, 1)
	x.Put(t, s)
	now = now.Add(7 * 24 * time.Hour)
	if _, r, err := s.Begin(t.Context(), x.Spec); err != nil || r == nil {
		t.Errorf("within 7 days: receipt %v, error %v", r, err)
	}
	now = now.Add(time.Second)
	u, r, err := s.Begin(t.Context(), x.Spec)
	if err != nil || r != nil {
		t.Fatalf("after 7 days: receipt %v, error %v", r, err)
	}
	u.Discard()
}

// BenchmarkPut puts 256 MiB in cells of 4 MiB, into fresh and into warm memory.
func BenchmarkPut(b *testing.B) {
	const cell, cells = 4 << 20, 64
	src := bytes.Repeat([]byte("0123456789abcdef"), cell/16)
	for name, pool := range map[string]int64{"fresh": -1, "warm": 1 << 30} {
		b.Run(name, func(b *testing.B) {
			s := mem.New(mem.Config{Limit: 4 << 30, Pool: pool})
			defer s.Close()
			d, _ := array.ParseDType("|u1")
			b.SetBytes(cell * cells)
			for i := range b.N {
				spec := store.Spec{ID: store.ID{1, byte(i), byte(i >> 8)}, Name: "x", Meta: array.Meta{DType: d, Shape: array.Shape{cell * cells}, Cell: array.Shape{cell}}}
				u, _, err := s.Begin(b.Context(), spec)
				if err != nil {
					b.Fatal(err)
				}
				for c := range cells {
					m := u.(store.Lender).Lend(c, cell)
					copy(m, src)
					if err := u.Write(b.Context(), store.Cell{Index: c}, m); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := u.Commit(b.Context(), [32]byte{}); err != nil {
					b.Fatal(err)
				}
				if err := s.Delete(b.Context(), "x"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
