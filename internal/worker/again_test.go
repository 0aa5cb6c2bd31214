package worker

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/wire"
)

// TestAskedAgainAfterCommit asks again with the id of a commit, when the array is there, was replaced, was deleted, and after a restart of the
// server: the receipt is the same every time, and what has the name stays what it is.
func TestAskedAgainAfterCommit(t *testing.T) { eachDriver(t, askedAgain) }

func askedAgain(t *testing.T, driver string) {
	path := filepath.Join(t.TempDir(), "store")
	kinds := map[string]func() store.Store{
		"mem": func() store.Store { return stores["mem"](t) },
		"dir": func() store.Store {
			st, err := dir.Open(path, dir.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return st
		},
	}
	for name, open := range kinds {
		for _, resume := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				var first *client.Receipt
				x := random(t, rand.New(rand.NewPCG(1, 1)), "<f4", array.Shape{300, 70}, nil)
				y := random(t, rand.New(rand.NewPCG(1, 2)), "<i2", array.Shape{5}, nil)
				opts := client.PutOptions{ID: wire.ID{7, 7}, Digest: client.SHA256, Resume: resume, IfAbsent: !resume}
				if resume {
					opts.ID[2] = 1
				}
				same := func(c *client.Client, when string) {
					t.Helper()
					again, err := c.Put(t.Context(), "a", x, opts)
					if err != nil || *again != *first {
						t.Errorf("%s: receipt %+v, error %v; it was %+v", when, again, err, first)
					}
				}
				t.Run("first", func(t *testing.T) {
					_, addr := serve(t, open(), Config{Driver: driver})
					c := dial(t, addr)
					var err error
					if first, err = c.Put(t.Context(), "a", x, opts); err != nil {
						t.Fatal(err)
					}
					same(c, "at once")
					replaced, err := c.Put(t.Context(), "a", y, client.PutOptions{})
					if err != nil {
						t.Fatal(err)
					}
					same(c, "when it was replaced")
					if st, err := c.Stat(t.Context(), "a"); err != nil || st.ID != replaced.ID {
						t.Errorf("asking again changed what has the name: %+v, %v", st, err)
					}
					if err := c.Delete(t.Context(), "a"); err != nil {
						t.Fatal(err)
					}
					same(c, "when it was deleted")
					if _, err := c.Stat(t.Context(), "a"); !errors.Is(err, client.ErrNotFound) {
						t.Errorf("asking again brought the array back: %v", err)
					}
				})
				if name == "dir" && first != nil {
					t.Run("restarted", func(t *testing.T) {
						_, addr := serve(t, open(), Config{Driver: driver})
						c := dial(t, addr)
						same(c, "after a restart")
						if _, err := c.Stat(t.Context(), "a"); !errors.Is(err, client.ErrNotFound) {
							t.Errorf("asking again brought the array back: %v", err)
						}
					})
				}
			})
		}
	}
}

// keptLeaves remembers leaves as a program does that puts again in another process.
type keptLeaves struct {
	mu    sync.Mutex
	known map[int][32]byte
	kept  int
}

func (k *keptLeaves) Leaf(i int) ([32]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	leaf, ok := k.known[i]
	return leaf, ok
}

func (k *keptLeaves) Keep(i int, leaf [32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known[i] = leaf
	k.kept++
}

// brokenSource is a source that fails at a cell, and counts the cells that are read.
type brokenSource struct {
	*client.Array
	at, read int
}

func (f *brokenSource) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	if i == f.at {
		return nil, errors.New("the disk is gone")
	}
	f.read++
	return f.Array.Cell(g, i, buf)
}

// TestNothingHashedAgain puts with SHA-256, breaks off, and goes on in what could be another process: the cells that are durable are neither read
// nor hashed nor sent again.
func TestNothingHashedAgain(t *testing.T) {
	audit(t)
	st, err := dir.Open(filepath.Join(t.TempDir(), "store"), dir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, st, Config{})
	a := random(t, rand.New(rand.NewPCG(1, 3)), "<f4", array.Shape{100, 50}, nil)
	known := &keptLeaves{known: map[int][32]byte{}}
	opts := client.PutOptions{ID: wire.ID{8}, Cell: array.Shape{10, 50}, Digest: client.SHA256, Resume: true, Leaves: known}
	src := &brokenSource{Array: &a, at: 8}
	if _, err := dial(t, addr).PutFrom(t.Context(), "a", src, opts); err == nil || known.kept != 8 {
		t.Fatalf("error %v, %d leaves", err, known.kept)
	}
	src = &brokenSource{Array: &a, at: -1}
	known.kept = 0
	r, err := dial(t, addr).PutFrom(t.Context(), "a", src, opts)
	if err != nil || known.kept != 2 || src.read != 2 {
		t.Fatalf("error %v, %d leaves made, %d cells read", err, known.kept, src.read)
	}
	whole, err := dial(t, addr).Put(t.Context(), "b", a, client.PutOptions{Cell: opts.Cell, Digest: client.SHA256})
	if err != nil || whole.Root != r.Root {
		t.Errorf("error %v, root %s, put at once it is %s", err, r.Root, whole.Root)
	}
}
