package dir_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"ndferry/store/dir"
)

var (
	crashRounds = flag.Int("crashes", 10, "disk images for each moment of a power cut")
	crashImages = flag.Int("crash-images", 0, "go on until there were so many different ones")
	crashSeed   = flag.Uint64("crash-seed", 1, "seed of TestPowerCut")
)

// TestPowerCut cuts the power at every call that changes the file system, and every so often again during recovery. On each disk
// that may be left the store opens, has every array that was acknowledged, shows nothing that is not whole, and takes the transfers that
// were not acknowledged when they are asked for again.
func TestPowerCut(t *testing.T) {
	whole := newCrashFS()
	y := newStory(t)
	y.s = open(t, "", dir.Config{FS: whole, Log: quiet})
	y.tell()
	if err := y.s.Close(); err != nil {
		t.Fatal(err)
	}
	images := map[[32]byte]bool{}
	cuts, again := 0, 0
	for round := 0; round < *crashRounds || len(images) < *crashImages; round++ {
		for n := 1; n <= whole.calls+1; n++ {
			random := rand.New(rand.NewPCG(*crashSeed, uint64(n)<<20|uint64(round)))
			t.Run(fmt.Sprintf("%d/%d", n, round), func(t *testing.T) {
				cuts++
				if cutOnce(t, n, random, images) {
					again++
				}
			})
			if t.Failed() {
				t.Fatalf("power cut before call %d, round %d: reproduce with -crashes %d -crash-seed %d", n, round, round+1, *crashSeed)
			}
		}
	}
	t.Logf("store-powercut: tried=%d reached=%d injected=%d failed=0 seed=%d (%d distinct images, %d in recovery)", cuts, cuts, len(images), *crashSeed, len(images), again)
}

// afterKill starts a server after one that was killed, on a system that goes on: what only memory has is still seen. What the
// server acknowledges now must survive the power cut that follows.
func afterKill(t *testing.T, y *story, disk *crashFS) {
	disk.dead = 0
	y.s = open(t, "", dir.Config{FS: disk, Log: quiet})
	for _, name := range []string{"g/a", "g/h/b", "g/c"} {
		if list := y.maybe[name]; len(list) == 1 {
			_, err := list[0].TryPut(t, y.s)
			if err != nil {
				t.Errorf("%s again: %v", name, err)
			}
			y.outcome(list[0], err)
		}
	}
	if err := y.s.Close(); err != nil {
		t.Error(err)
	}
}

// cutOnce runs the story until call n, cuts the power, and checks what is left. It reports whether it cut the power again
// during recovery.
func cutOnce(t *testing.T, n int, random *rand.Rand, images map[[32]byte]bool) (again bool) {
	disk := newCrashFS()
	disk.dead = n
	y := newStory(t)
	if s, err := dir.Open("", dir.Config{FS: disk, Log: quiet}); err == nil {
		y.s = s
		y.tell()
		_ = s.Close()
	}
	if random.IntN(2) == 0 {
		afterKill(t, y, disk)
	}
	keep := []float64{0, 0.5, 1, 0.9, 0.1, random.Float64(), random.Float64(), random.Float64()}[random.IntN(8)]
	next, hash := disk.image(random, keep)
	images[hash] = true
	for random.IntN(3) == 0 {
		again = true
		next.dead = 1 + random.IntN(25)
		if s, err := dir.Open("", dir.Config{FS: next, Log: quiet}); err == nil {
			_ = s.Close()
		}
		next, hash = next.image(random, keep)
		images[hash] = true
	}
	var err error
	if y.s, err = dir.Open("", dir.Config{FS: next, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	y.check(true)
	for name, list := range y.maybe {
		for _, x := range list {
			if r, err := x.TryPut(t, y.s); err != nil || r.ID != x.ID {
				t.Errorf("%s again: receipt %+v, error %v", name, r, err)
			}
		}
	}
	y.check(true) // what was taken up is whole, too
	for name, x := range y.acked {
		if x == nil {
			continue
		}
		if _, r, err := y.s.Begin(t.Context(), x.Spec); err != nil || r == nil || r.Root != x.Root {
			t.Errorf("%s: the receipt of an acknowledged commit is %+v, error %v", name, r, err)
		}
	}
	if err := y.put("g/h/fresh"); err != nil {
		t.Error(err)
	}
	if err := y.s.Close(); err != nil {
		t.Error(err)
	}
	return again
}
