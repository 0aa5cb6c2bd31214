package dir_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

var update = flag.Bool("update", false, "write the golden files")

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func small(t testing.TB, name string, seed uint64) *storetest.Sample {
	t.Helper()
	return storetest.NewSample(t, name, "<i2", array.Shape{6, 4}, array.Shape{2, 4}, nil, store.DigestSHA256, seed)
}

// TestCommitOrder pins what reaches the disk, in which order: STORE.md §1.
func TestCommitOrder(t *testing.T) {
	path := t.TempDir()
	script := newScript(t, path)
	s := open(t, path, dir.Config{FS: script, Now: fixedClock()})
	defer s.Close()
	var log strings.Builder
	ids := map[string]string{}
	part := func(title string) {
		fmt.Fprintf(&log, "# %s\n", title)
		for _, c := range script.changes() {
			c = regexp.MustCompile(`[0-9a-f]{32}`).ReplaceAllStringFunc(c, func(id string) string {
				if ids[id] == "" {
					ids[id] = fmt.Sprintf("ID%d", len(ids)+1)
				}
				return ids[id]
			})
			// Lengths of JSON are not what this is about.
			c = regexp.MustCompile(`(\.ndferry|zarr\.json|receipts|names|trash/\d+-\d+) \d+(\+\d+)?$`).ReplaceAllString(c, "$1")
			c = regexp.MustCompile(`(state/lock) 0\+\d+$`).ReplaceAllString(c, "$1")
			fmt.Fprintln(&log, c)
		}
		script.reset()
	}
	part("open a new store")
	small(t, "lab/run/x", 1).Put(t, s)
	part("put lab/run/x, which has two cells of a checkpoint; the groups are new")
	small(t, "lab/run/x", 2).Put(t, s)
	part("replace lab/run/x")
	x := small(t, "lab/y", 3)
	u, _, err := s.Begin(t.Context(), x.Spec)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := u.Write(t.Context(), x.Info[i], x.Cells[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	part("checkpoint two cells of lab/y and go away")
	x.Resume = true
	x.Put(t, s)
	part("take lab/y up again and put it")
	if err := s.Delete(t.Context(), "lab/run/x"); err != nil {
		t.Fatal(err)
	}
	part("delete lab/run/x, the last of its group")
	const golden = "testdata/commit.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(log.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), log.String()); diff != "" {
		t.Errorf("the order of calls differs from %s (go test -update writes it anew):\n%s", golden, diff)
	}
}

func fixedClock() func() time.Time {
	return func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }
}

// quickBase returns a directory for stores, in memory where there is such a file system: what these tests look at does not depend
// on the disk, and they make thousands of syncs.
func quickBase(testing.TB) string {
	const base = "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		return ""
	}
	return base
}

func quickDir(t *testing.T) string {
	path, err := os.MkdirTemp(quickBase(t), "ndferry-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

// story is a run of operations of which some may fail. It keeps what was acknowledged.
type story struct {
	t     *testing.T
	s     *dir.Store
	acked map[string]*storetest.Sample // what the name must hold
	maybe map[string][]*storetest.Sample
	gone  map[string]bool // whether a delete that failed may have happened
	seed  uint64
}

func newStory(t *testing.T) *story {
	return &story{t: t, acked: map[string]*storetest.Sample{}, maybe: map[string][]*storetest.Sample{}, gone: map[string]bool{}}
}

func (y *story) put(name string) error {
	y.seed++
	x := small(y.t, name, y.seed)
	x.Resume = true
	_, err := x.TryPut(y.t, y.s)
	y.outcome(x, err)
	return err
}

func (y *story) outcome(x *storetest.Sample, err error) {
	if err == nil {
		y.acked[x.Name], y.maybe[x.Name], y.gone[x.Name] = x, nil, false
	} else {
		y.maybe[x.Name] = append(y.maybe[x.Name], x)
	}
}

func (y *story) delete(name string) {
	if err := y.s.Delete(y.t.Context(), name); err == nil {
		y.acked[name], y.maybe[name] = nil, nil
	} else {
		y.gone[name] = true
	}
}

// interrupted writes two cells, with a checkpoint after each, goes away, and takes the upload up again.
func (y *story) interrupted(name string) {
	y.seed++
	x := small(y.t, name, y.seed)
	x.Resume = true
	if u, _, err := y.s.Begin(y.t.Context(), x.Spec); err == nil {
		for _, i := range []int{2, 0} {
			_ = u.Write(y.t.Context(), x.Info[i], x.Cells[i])
			_ = u.Sync(y.t.Context())
		}
		_ = u.Close()
	}
	_, err := x.TryPut(y.t, y.s)
	y.outcome(x, err)
}

func (y *story) tell() {
	_ = y.put("g/a")
	_ = y.put("g/h/b")
	_ = y.put("g/a")
	y.interrupted("g/c")
	y.delete("g/h/b")
	_ = y.put("g/h/b")
	y.delete("g/c")
}

// check compares the store with what was acknowledged. crashed tells that what was not acknowledged may be there as well.
func (y *story) check(crashed bool) {
	y.t.Helper()
	infos, _, err := y.s.List(y.t.Context(), "", "", 100)
	if err != nil {
		y.t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, i := range infos {
		listed[i.Name] = true
	}
	for name := range y.maybe {
		listed[name] = true
	}
	for name := range y.acked {
		listed[name] = true
	}
	for name := range listed {
		a, err := y.s.Open(y.t.Context(), name)
		want := y.acked[name]
		switch {
		case errors.Is(err, store.ErrNotFound):
			if want != nil && !y.gone[name] {
				y.t.Errorf("%s: acknowledged and gone", name)
			}
			continue
		case err != nil:
			y.t.Errorf("%s: %v", name, err)
			continue
		}
		matched := false
		candidates := []*storetest.Sample{}
		if want != nil {
			candidates = append(candidates, want)
		}
		if crashed {
			candidates = append(candidates, y.maybe[name]...)
		}
		for _, x := range candidates {
			if x.ID == a.Info().ID {
				x.CheckArray(y.t, a)
				matched = true
			}
		}
		if !matched {
			y.t.Errorf("%s: holds transfer %x, which was not acknowledged", name, a.Info().ID)
		}
		if err := a.Verify(y.t.Context(), nil, func(p store.Problem) { y.t.Errorf("%s: %+v", name, p) }); err != nil {
			y.t.Error(err)
		}
		a.Close()
	}
}

// TestEveryCallFails lets each call of the file system fail once, with EIO and with ENOSPC: nothing that was acknowledged is
// lost, nothing else is visible, and the store serves on, before and after a restart.
func TestEveryCallFails(t *testing.T) {
	total := countCalls(t)
	tried, reached := 0, 0
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for n := 1; n <= total; n++ {
			tried++
			t.Run(fmt.Sprintf("%s/%d", errno.Error(), n), func(t *testing.T) {
				if failOne(t, n, errno) {
					reached++
				}
			})
			if t.Failed() {
				return
			}
		}
	}
	// The number of calls varies a little with the moment at which trash is removed.
	t.Logf("store-errno: tried=%d reached=%d injected=%d failed=0 seed=0", tried, reached, reached)
	if reached < tried*9/10 {
		t.Errorf("of %d faults only %d were injected", tried, reached)
	}
}

func countCalls(t *testing.T) int {
	t.Helper()
	path := quickDir(t)
	script := newScript(t, path)
	y := newStory(t)
	y.s = open(t, path, dir.Config{FS: script, Log: quiet})
	y.tell()
	script.heal()
	y.check(false)
	if err := y.s.Close(); err != nil {
		t.Fatal(err)
	}
	return len(script.calls)
}

func failOne(t *testing.T, n int, errno error) bool {
	path := quickDir(t)
	script := newScript(t, path)
	script.fail[n] = errno
	y := newStory(t)
	s, err := dir.Open(path, dir.Config{FS: script, Log: quiet})
	if err != nil {
		if !errors.Is(err, errno) {
			t.Errorf("Open: error %v hides its cause %v", err, errno)
		}
		if errno == syscall.ENOSPC && !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("Open: error %v is not ErrNoSpace", err)
		}
		if s, err = dir.Open(path, dir.Config{Log: quiet}); err != nil {
			t.Fatalf("Open after a failed one: %v", err)
		}
	}
	y.s = s
	y.tell()
	script.heal()
	y.check(false)
	if err := y.put("g/fresh"); err != nil {
		t.Errorf("the store serves no more: %v", err)
	}
	if err := y.s.Close(); err != nil {
		t.Error(err)
	}
	y.s = open(t, path, dir.Config{Log: quiet})
	y.check(true)
	for name, list := range y.maybe {
		// What is asked for again is there afterwards: a receipt of something that never was published would be a lie.
		for _, x := range list {
			if _, err := x.TryPut(t, y.s); err != nil {
				t.Errorf("%s again: %v", name, err)
			} else if len(list) == 1 {
				x.Check(t, y.s)
				y.outcome(x, nil)
			}
		}
	}
	if err := y.put("g/h/fresh"); err != nil {
		t.Errorf("after a restart the store serves no more: %v", err)
	}
	y.check(true)
	noRubbish(t, y.s, path)
	return script.failed()
}

// noRubbish closes the store and fails the test when anything but arrays and unfinished transfers is left.
func noRubbish(t *testing.T, s *dir.Store, path string) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(path + "/state/trash")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left in the trash: %s", e.Name())
	}
}

// TestFailedSyncIsNotResumed lets the sync of a journal fail, and the removal of the upload too. What the journal says after that is
// in memory and perhaps not on the disk, so nothing of it may be called durable.
func TestFailedSyncIsNotResumed(t *testing.T) {
	path := quickDir(t)
	script := newScript(t, path)
	s := open(t, path, dir.Config{FS: script, Log: quiet})
	defer s.Close()
	x := small(t, "a/x", 1)
	x.Resume = true
	u, _, err := s.Begin(t.Context(), x.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Write(t.Context(), x.Info[0], x.Cells[0]); err != nil {
		t.Fatal(err)
	}
	script.mu.Lock()
	n := len(script.calls)
	script.mu.Unlock()
	script.script(n+8, syscall.EIO) // the owner is looked at, data and record are written
	if err := u.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Sync: error %v", err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	script.script(0, nil)
	if u, _, err = s.Begin(t.Context(), x.Spec); err != nil {
		t.Fatal(err)
	}
	if d := u.Durable(); len(d) > 0 {
		t.Errorf("durable %v after a sync that failed", d)
	}
	if err := u.Discard(); err != nil {
		t.Error(err)
	}
	x.Put(t, s)
	x.Check(t, s)
}

// TestDeadAtEveryCall lets every call from the n-th on fail, as for a server that is killed there, and starts another one.
func TestDeadAtEveryCall(t *testing.T) {
	total := countCalls(t)
	for n := 1; n <= total; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			path := quickDir(t)
			script := newScript(t, path)
			script.script(n, syscall.EIO)
			y := newStory(t)
			if s, err := dir.Open(path, dir.Config{FS: script, Log: quiet}); err == nil {
				y.s = s
				y.tell()
				_ = s.Close()
			}
			y.s = open(t, path, dir.Config{Log: quiet})
			y.check(true)
			// Asking again with the same id stores once, and gives the receipt of what is there.
			for name, list := range y.maybe {
				for _, x := range list {
					r, err := x.TryPut(t, y.s)
					if err != nil {
						t.Errorf("%s again: %v", name, err)
					} else if r.ID != x.ID || r.Root != x.Root {
						t.Errorf("%s again: receipt %+v", name, r)
					}
				}
			}
			if err := y.put("g/fresh"); err != nil {
				t.Errorf("after a restart the store serves no more: %v", err)
			}
			noRubbish(t, y.s, path)
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("store-dead: tried=%d reached=%d injected=%d failed=0 seed=0", total, total, total)
}
