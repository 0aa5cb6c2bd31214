//go:build linux

package mem

import (
	"bytes"
	"testing"
	"unsafe"
)

// TestReadyKeepsBytes prepares memory that holds bytes already, and memory whose last part is no large page.
func TestReadyKeepsBytes(t *testing.T) {
	const size = 5*hugePage + 8192
	r, err := newRegion(size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.free(); err != nil {
			t.Error(err)
		}
	}()
	canary := []byte("written before")
	at := []int{0, hugePage + 12345, 3*hugePage - len(canary), size - len(canary)}
	for _, i := range at {
		copy(r.mem[i:], canary)
	}
	r.ready(hugePage+1, hugePage+2)
	if got := r.pages.done[0]; got != 1<<1 {
		t.Errorf("a byte of page 1: pages %b are ready", got)
	}
	r.ready(0, size)
	if got := r.pages.done[0]; got != 1<<5-1 {
		t.Errorf("all: pages %b are ready", got)
	}
	for _, i := range at {
		if !bytes.HasPrefix(r.mem[i:], canary) {
			t.Errorf("the bytes at %d are gone", i)
		}
		clear(r.mem[i : i+len(canary)])
	}
	if n := bytes.Count(r.mem, []byte{0}); n != size {
		t.Errorf("%d bytes of fresh memory are not zero", size-n)
	}
	if err := r.shrink(hugePage + 4096); err != nil {
		t.Fatal(err)
	}
	if len(r.mem) != hugePage+4096 || r.mem[hugePage+4095] != 0 {
		t.Errorf("%d bytes after shrink", len(r.mem))
	}
	r.ready(0, len(r.mem))
}

// TestAligned maps sizes around a large page: the address must allow for large pages, and nothing else of the address space is kept.
func TestAligned(t *testing.T) {
	for _, size := range []int{4096, hugePage - 4096, hugePage, hugePage + 4096, 3 * hugePage} {
		r, err := newRegion(size)
		if err != nil {
			t.Fatal(err)
		}
		if at := uintptr(unsafe.Pointer(&r.mem[0])); size >= hugePage && at%hugePage != 0 {
			t.Errorf("%d bytes are mapped at %x", size, at)
		}
		r.mem[0], r.mem[size-1] = 1, 1
		if err := r.free(); err != nil {
			t.Error(err)
		}
	}
}

// TestSlowPages leaves out more and more pages when making them large fails.
func TestSlowPages(t *testing.T) {
	for range 10 {
		tried := slowPages(t)
		if tried[0] != 0 || len(tried) > 5 { // 0, 2, 6, 14, 30
			t.Errorf("tried pages %v of 39", tried)
		}
		if len(tried) > 1 { // else the first took over 10 ms, and all others are left out
			return
		}
	}
	t.Error("of each mapping one page was tried")
}

func slowPages(t *testing.T) (tried []int) {
	r := &region{mem: make([]byte, 40*hugePage)[1:]} // not aligned: the kernel refuses each
	for i := range len(r.mem) / hugePage {
		before := r.pages
		r.ready(i*hugePage, (i+1)*hugePage)
		if before.skip == 0 {
			tried = append(tried, i)
		}
		if r.pages.missed == 0 {
			t.Fatalf("page %d was made large", i)
		}
	}
	return tried
}
