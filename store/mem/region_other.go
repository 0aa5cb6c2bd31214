//go:build unix && !linux

package mem

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// region is an anonymous mapping; see region_linux.go.
type region struct {
	mem   []byte
	pages huge
}

func newRegion(size int) (*region, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	return &region{mem: mem}, nil
}

// shrink refuses: the pool then gives only mappings of the right size.
func (r *region) shrink(size int) error {
	if size == len(r.mem) {
		return nil
	}
	return fmt.Errorf("shrink to %d bytes: %w", size, unix.ENOTSUP)
}

func (r *region) free() error { return unix.Munmap(r.mem) }

func makeHuge([]byte) error { return unix.ENOTSUP }
