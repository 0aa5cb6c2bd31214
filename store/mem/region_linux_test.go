package mem

import (
	"bytes"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"testing"
	"unsafe"
)

// TestGather puts the pages of a region together while it is written to, cuts it, and frees it in the middle.
func TestGather(t *testing.T) {
	const size = 16<<20 + 4096
	want := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(want)
	r, err := newRegion(size)
	if err != nil {
		t.Fatal(err)
	}
	if at := uintptr(unsafe.Pointer(&r.mem[0])); at%hugePage != 0 {
		t.Errorf("at %x", at)
	}
	copy(r.mem, want)
	steps := 0
	for r.gatherAt(steps * gatherStep) {
		steps++
		copy(r.mem[steps*100:], want[steps*100:steps*100+50])
	}
	if !bytes.Equal(r.mem, want) {
		t.Error("the bytes are others")
	}
	if steps > 0 && pmdMapped(t, &r.mem[0]) == 0 {
		t.Errorf("%d steps, and no huge page is mapped", steps)
	}
	t.Logf("%d of %d steps (0: this kernel gathers no pages of files)", steps, size/gatherStep)
	if err := r.shrink(8<<20 + 4096); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.mem, want[:len(r.mem)]) || len(r.mem) != 8<<20+4096 {
		t.Error("the bytes are others when it is cut")
	}
	for range 20 {
		r.gather()
		if err := r.free(); err != nil {
			t.Fatal(err)
		}
		if r, err = newRegion(size); err != nil {
			t.Fatal(err)
		}
		copy(r.mem, want)
	}
	if err := r.free(); err != nil {
		t.Error(err)
	}
}

// pmdMapped returns how many KiB of the mapping at p are huge pages.
func pmdMapped(t *testing.T, p *byte) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at := strconv.FormatUint(uint64(uintptr(unsafe.Pointer(p))), 16)
	n := 0
	for _, m := range regexp.MustCompile(`(?s)(?:^|\n)`+at+`-.*?\n(?:Shmem|File)PmdMapped: +(\d+) kB.*?\n(?:File)PmdMapped: +(\d+) kB`).FindAllSubmatch(maps, 1) {
		for _, kib := range m[1:] {
			k, _ := strconv.Atoi(string(kib))
			n += k
		}
	}
	return n
}
