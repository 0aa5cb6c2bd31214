package dir_test

import (
	"os"
	"testing"
	"time"

	"ndferry/store/dir"
)

// TestAbandonedUploads leaves an upload and moves two clocks: only when both say that 48 hours are over it goes.
func TestAbandonedUploads(t *testing.T) {
	path := quickDir(t)
	wall, up := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Duration(0)
	config := dir.Config{Log: quiet, Now: func() time.Time { return wall }, Uptime: func() time.Duration { return up }}
	s := open(t, path, config)
	x := small(t, "a/x", 1)
	x.Resume = true
	leave := func() {
		u, _, err := s.Begin(t.Context(), x.Spec)
		if err != nil {
			t.Fatal(err)
		}
		if len(u.Durable()) == 0 {
			if err := u.Write(t.Context(), x.Info[1], x.Cells[1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := u.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(1)
	kept := func(why string, want int) {
		t.Helper()
		seed++
		small(t, "a/y", seed).Put(t, s)
		entries, err := os.ReadDir(path + "/state/uploads")
		if err != nil || len(entries) != want {
			t.Errorf("%s: %d uploads, error %v; want %d", why, len(entries), err, want)
		}
	}
	leave()
	kept("at once", 1)
	wall = wall.AddDate(10, 0, 0)
	up += 2 * time.Hour
	kept("the wall clock jumped", 1)
	wall = wall.AddDate(-10, 0, 0)
	up += 100 * time.Hour
	kept("the wall clock stood still", 1)
	leave()
	up += 47 * time.Hour
	wall = wall.Add(47 * time.Hour)
	kept("taken up again 47 hours ago", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, config)
	defer s.Close()
	up += 47 * time.Hour
	wall = wall.Add(47 * time.Hour)
	kept("found 47 hours ago", 1)
	up += 2 * time.Hour
	wall = wall.Add(2 * time.Hour)
	kept("found 49 hours ago", 0)
	x.Put(t, s)
}
