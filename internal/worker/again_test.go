package worker

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
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
