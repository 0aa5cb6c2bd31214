package mem

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is a mapping of a memfd. Its owner is an array, or the pool.
type region struct {
	fd   int
	mem  []byte // whole pages, from a boundary of huge pages on; changed with mu held
	uses int    // owned by the pool: how often it was given back

	mu sync.Mutex // held while pages are gathered, and while they are given up
}

const (
	hugePage   = 2 << 20
	gatherStep = 2 * hugePage // bytes that are gathered at once; who frees the region waits for no more
)

// newRegion maps size bytes, whole pages, of fresh memory, which the kernel gives page by page when it is touched.
func newRegion(size int) (*region, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("ndferry", flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("ndferry", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ftruncate: %w", err)
	}
	mem, err := mapAligned(fd, size)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	return &region{fd: fd, mem: mem}, nil
}

// mapAligned maps a file at a boundary of huge pages: a reservation with room for one is made first, and what it has too much given back.
func mapAligned(fd, size int) ([]byte, error) {
	room := uintptr(size + hugePage)
	begin, err := unix.MmapPtr(-1, 0, nil, room, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	before := -uintptr(begin) & (hugePage - 1)
	at := unsafe.Add(begin, before)
	if _, err := unix.MmapPtr(fd, 0, at, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		return nil, errors.Join(err, unix.MunmapPtr(begin, room))
	}
	if before > 0 {
		err = unix.MunmapPtr(begin, before)
	}
	if behind := room - before - uintptr(size); behind > 0 {
		err = errors.Join(err, unix.MunmapPtr(unsafe.Add(at, size), behind))
	}
	return unsafe.Slice((*byte)(at), size), err
}

// gather asks the kernel to put the pages of the region into huge pages, on a goroutine of its own. Receiving into those, and sending
// from them, is a tenth faster; making them copies all of it once, so it is for a region that is used again and again. Kernels
// that do not know how (before 6.1) refuse, and nothing is lost.
func (r *region) gather() {
	go func() {
		for off := 0; r.gatherAt(off); off += gatherStep {
		}
	}()
}

// gatherAt does a step, and tells whether there is another.
func (r *region) gatherAt(off int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	end := min(off+gatherStep, len(r.mem)/hugePage*hugePage)
	return off < end && unix.Madvise(r.mem[off:end], unix.MADV_COLLAPSE) == nil
}

// shrink gives the memory behind size, whole pages, back to the system.
func (r *region) shrink(size int) error {
	if size == len(r.mem) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := unix.MunmapPtr(unsafe.Pointer(&r.mem[size]), uintptr(len(r.mem)-size)); err != nil {
		return fmt.Errorf("munmap: %w", err)
	}
	r.mem = r.mem[:size:size]
	if err := unix.Ftruncate(r.fd, int64(size)); err != nil {
		return fmt.Errorf("ftruncate: %w", err)
	}
	return nil
}

func (r *region) free() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(r.mem)), uintptr(len(r.mem)))
	r.mem = nil
	if e := unix.Close(r.fd); err == nil {
		err = e
	}
	return err
}

// physicalMemory returns the bytes of memory of the machine.
func physicalMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 4 << 30
	}
	return int64(info.Totalram) * int64(info.Unit)
}
