package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"ndferry/store"
)

// list checks prefix, after, limit and more.
func (s *suite) list() {
	s.wantNames("")
	all := []string{"a", "ab", "b/c", "b/cc/x", "b/d", "ba", "c/1", "c/10", "c/2"}
	for i, name := range all {
		s.sample(name, uint64(i)).Put(s, s.s)
	}
	s.wantNames(strings.Join(all, " "))
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
		more          bool
	}{
		{"", "", 3, "a ab b/c", true},
		{"", "b/c", 3, "b/cc/x b/d ba", true},
		{"", "ba", 3, "c/1 c/10 c/2", false},
		{"", "c/2", 3, "", false},
		{"b", "", 9, "b/c b/cc/x b/d ba", false},
		{"b/", "", 9, "b/c b/cc/x b/d", false},
		{"b/c", "", 9, "b/c b/cc/x", false},
		{"b/cc", "", 9, "b/cc/x", false},
		{"b/c", "b/c", 9, "b/cc/x", false},
		{"c/1", "", 1, "c/1", true},
		{"c/1", "c/1", 1, "c/10", false},
		{"", "b/cb", 2, "b/cc/x b/d", true},
		{"", "b/cc/x/y", 2, "b/d ba", true},
		{"zz", "", 9, "", false},
		{"a", "zz", 9, "", false},
		{"b/d", "a", 9, "b/d", false},
		{"b", "b", 9, "b/c b/cc/x b/d ba", false},
	} {
		infos, more, err := s.s.List(s.Context(), c.prefix, c.after, c.limit)
		s.ok("List", err)
		if got := names(infos); got != c.want || more != c.more {
			s.Errorf("List(%q, %q, %d): %q, more %v; want %q, %v", c.prefix, c.after, c.limit, got, more, c.want, c.more)
		}
	}
	infos, _, err := s.s.List(s.Context(), "b/d", "", 1)
	s.ok("List", err)
	if r := infos[0].Receipt; r.Name != "b/d" || r.Bytes != 12000 || infos[0].Meta.Shape[0] != 100 {
		s.Errorf("listed %+v", infos[0])
	}
}

// listOrder checks that a group's members stand where their whole names belong: '-' < '/' < '0'.
func (s *suite) listOrder() {
	all := []string{"x/y", "x-1", "x.y", "x0", "x/a/b", "x/a-b", "x/a0", "x ", "X", "é", "日本", "x/é"}
	for i, name := range all {
		s.sample(name, uint64(i)).Put(s, s.s)
	}
	slices.Sort(all)
	s.wantNames(strings.Join(all, " "))
	// Page by page, of every size.
	for limit := 1; limit <= len(all); limit++ {
		var got []string
		after, more := "", true
		for more {
			var infos []store.Info
			var err error
			infos, more, err = s.s.List(s.Context(), "", after, limit)
			s.ok("List", err)
			for _, i := range infos {
				got = append(got, i.Name)
			}
			if len(infos) == 0 {
				break
			}
			after = infos[len(infos)-1].Name
		}
		if !slices.Equal(got, all) {
			s.Errorf("in pages of %d: %q, want %q", limit, got, all)
		}
	}
}

func (s *suite) names() {
	for i, name := range []string{
		"a", "A", "with blank", "ünïcödé", "日本/語", "🚢/⛴", "a.b-c_d", "c", "c.0.0", "zarr", "state", "_x", "a…/b",
		strings.Repeat("x", 255), strings.Repeat("q/", 63) + "q", strings.Repeat("e", 255) + "/" + strings.Repeat("f", 255) + "/" + strings.Repeat("g", 255),
		"'; drop table", "%00", "~", "-rf", "*", "a:b", "CON",
	} {
		x := s.sample(name, uint64(i))
		x.Put(s, s.s)
		x.Check(s, s.s)
		s.ok("Delete "+name, s.s.Delete(s.Context(), name))
	}
	s.wantNames("")
	// Normal form D of é, and other names that are none.
	for _, name := range []string{"e\u0301", "a\\b", "a\x7f", "a\u0085", "\xff", "__a", "a/.b", strings.Repeat("x/", 64) + "x"} {
		_, err := s.sample(name, 1).TryPut(s, s.s)
		s.want(fmt.Sprintf("put %q", name), err, store.ErrInvalid)
	}
}

// manyWriters puts many arrays at one name at the same time; one of them must be there in the end, whole.
func (s *suite) manyWriters() {
	const writers, rounds = 8, 5
	var wg sync.WaitGroup
	samples := make([][]*Sample, writers)
	for w := range writers {
		for r := range rounds {
			samples[w] = append(samples[w], s.sample("race/x", uint64(1000+w*rounds+r)))
		}
		wg.Go(func() {
			for _, x := range samples[w] {
				if _, err := x.TryPut(s, s.s); err != nil {
					s.Error(err)
				}
			}
		})
	}
	wg.Wait()
	a, err := s.s.Open(s.Context(), "race/x")
	s.ok("Open", err)
	defer a.Close()
	found := false
	for w := range writers {
		if x := samples[w][rounds-1]; x.ID == a.Info().ID {
			x.CheckArray(s, a)
			found = true
		}
	}
	if !found {
		s.Errorf("the array is none of those that came last")
	}
	// With IfAbsent exactly one wins.
	var won []*Sample
	var mu sync.Mutex
	for w := range writers {
		x := s.sample("race/once", uint64(2000+w))
		x.IfAbsent = true
		wg.Go(func() {
			_, err := x.TryPut(s, s.s)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, x)
			} else if !errors.Is(err, store.ErrConflict) {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		s.Fatalf("%d writers created the same name", len(won))
	}
	won[0].Check(s, s.s)
}

// readersAndWriters reads a name while it is replaced and deleted: every array that opens is whole.
func (s *suite) readersAndWriters() {
	const rounds = 30
	known := map[store.ID]*Sample{}
	var all []*Sample
	for i := range rounds {
		x := NewSample(s, "rw/x", "<f8", []int{64, 1024}, []int{7, 1024}, nil, "", uint64(i))
		known[x.ID] = x
		all = append(all, x)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				a, err := s.s.Open(s.Context(), "rw/x")
				if errors.Is(err, store.ErrNotFound) {
					continue
				}
				if err != nil {
					s.Error(err)
					return
				}
				known[a.Info().ID].CheckArray(s, a)
				a.Close()
				if _, _, err := s.s.List(s.Context(), "", "", 10); err != nil {
					s.Error(err)
				}
			}
		})
	}
	for i, x := range all {
		if _, err := x.TryPut(s, s.s); err != nil {
			s.Error(err)
		}
		if i%4 == 3 {
			if err := s.s.Delete(s.Context(), "rw/x"); err != nil {
				s.Error(err)
			}
		}
	}
	close(done)
	wg.Wait()
}
