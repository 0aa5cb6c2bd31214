//go:build linux

package handover

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func makeWords(t *testing.T, n int) *Words {
	t.Helper()
	w, err := MakeWords(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// dupWords maps the table a second time, as another process would.
func dupWords(t *testing.T, w *Words) *Words {
	t.Helper()
	fd, err := unix.FcntlInt(w.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenWords(os.NewFile(uintptr(fd), "words"), w.Slots())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	return other
}

// TestWords_steps tries every step from every state: only those of the picture work.
func TestWords_steps(t *testing.T) {
	w := makeWords(t, 8)
	steps := map[string]struct {
		do   func(uint32, uint64) bool
		from map[State]State
	}{
		"take":   {w.Take, map[State]State{Offered: Taken}},
		"touch":  {w.Touch, map[State]State{Taken: Touched}},
		"revoke": {w.Revoke, map[State]State{Offered: Revoked}},
		"refuse": {w.Refuse, map[State]State{Offered: Refused, Taken: Refused}},
	}
	for name, s := range steps {
		for from := Free; from <= Refused; from++ {
			w.word(3).Store(word(77, from))
			to, allowed := s.from[from]
			if !allowed {
				to = from
			}
			if got := s.do(3, 77); got != allowed || w.State(3, 77) != to {
				t.Errorf("%s from %v: %v, then %v", name, from, got, w.State(3, 77))
			}
			w.word(3).Store(word(78, from)) // a later offer
			if s.do(3, 77) || w.State(3, 78) != from || w.State(3, 77) != Free {
				t.Errorf("%s of an older offer changed %v", name, from)
			}
		}
		if s.do(8, 1) || s.do(1<<31, 1) {
			t.Errorf("%s behind the table", name)
		}
	}
}

// TestWords_oneOwner lets a worker take and a master revoke at the same moment, through two mappings: one of them wins, always.
func TestWords_oneOwner(t *testing.T) {
	const rounds = 20000
	master := makeWords(t, 1)
	worker := dupWords(t, master)
	var taken, revoked atomic.Int64
	for seq := uint64(1); seq <= rounds; seq++ {
		master.Offer(0, seq)
		var both sync.WaitGroup
		var a, b bool
		both.Go(func() { a = worker.Take(0, seq) && worker.Touch(0, seq) })
		b = master.Revoke(0, seq)
		both.Wait()
		if a == b {
			t.Fatalf("offer %d: taken %v, revoked %v", seq, a, b)
		}
		if a {
			taken.Add(1)
		} else {
			revoked.Add(1)
		}
	}
	t.Logf("taken %d, revoked %d", taken.Load(), revoked.Load())
	touched, closed := master.Counts()
	if touched != uint64(taken.Load()) || closed != 0 || master.Live() != int(taken.Load()) {
		t.Errorf("the table counts %d touched, %d closed, %d live", touched, closed, master.Live())
	}
}

func TestOpenWords_refuses(t *testing.T) {
	w := makeWords(t, 600)
	dup := func(fd uintptr) *os.File {
		n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(n), "words")
	}
	memfd := func(size int64, seals int) *os.File {
		fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "x")
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
			t.Fatal(err)
		}
		return f
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const sealed = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	for name, c := range map[string]struct {
		f *os.File
		n int
	}{
		"more slots":    {dup(w.File().Fd()), 5000},
		"no slots":      {dup(w.File().Fd()), 0},
		"same size":     {dup(w.File().Fd()), 601},
		"not sealed":    {memfd(wordsBytes(8), unix.F_SEAL_GROW), 8},
		"too small":     {memfd(wordsBytes(8)-1, sealed), 8},
		"another memfd": {memfd(wordsBytes(8), sealed), 8},
		"a file":        {file, 8},
		"a pipe":        {r, 8},
	} {
		if got, err := OpenWords(c.f, c.n); !errors.Is(err, ErrWords) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err := c.f.Close(); err == nil {
			t.Errorf("%s: the file was left open", name)
		}
	}
}

func TestLatency(t *testing.T) {
	for d := time.Duration(1); d < time.Hour; d += d/7 + 1 {
		if bin := latencyBin(d); latencyOf(bin) < d || latencyOf(bin) > d+d/4+1 {
			t.Fatalf("%v is in bin %d, which ends at %v", d, bin, latencyOf(bin))
		}
	}
	if latencyBin(1<<62) >= latencyBins || latencyBin(-1) != 1 {
		t.Error("times that are out of bounds")
	}
	w := makeWords(t, 1)
	for i := range 100 {
		w.Latency(time.Duration(i+1) * time.Millisecond)
	}
	var h Histogram
	w.AddTo(&h)
	if p50, p99 := h.Quantile(0.5), h.Quantile(0.99); p50 < 50*time.Millisecond || p50 > 63*time.Millisecond || p99 < 99*time.Millisecond || p99 > 125*time.Millisecond {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}
