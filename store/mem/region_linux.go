package mem

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is a mapping of a memfd. Its owner is an array, or the pool.
type region struct {
	fd    int
	mem   []byte // whole pages; from hugePage on it begins at a multiple of that
	pages huge   // guarded by the mutex of the upload that writes to it
}

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
	r := &region{fd: fd}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ftruncate: %w", err)
	}
	if r.mem, err = mapAligned(fd, size); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	return r, nil
}

// mapAligned maps the file at a multiple of hugePage, if it has as many bytes.
func mapAligned(fd, size int) ([]byte, error) {
	const access = unix.PROT_READ | unix.PROT_WRITE
	if size < hugePage {
		at, err := unix.MmapPtr(fd, 0, nil, uintptr(size), access, unix.MAP_SHARED)
		if err != nil {
			return nil, err
		}
		return unsafe.Slice((*byte)(at), size), nil
	}
	at, err := unix.MmapPtr(-1, 0, nil, uintptr(size+hugePage), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	before := -uintptr(at) % hugePage
	to := unsafe.Add(at, before)
	_, err = unix.MmapPtr(fd, 0, to, uintptr(size), access, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil {
		_ = unix.MunmapPtr(at, uintptr(size+hugePage))
		return nil, err
	}
	if before > 0 {
		_ = unix.MunmapPtr(at, before)
	}
	_ = unix.MunmapPtr(unsafe.Add(to, size), hugePage-before)
	return unsafe.Slice((*byte)(to), size), nil
}

// shrink gives the memory behind size, whole pages, back to the system.
func (r *region) shrink(size int) error {
	if size == len(r.mem) {
		return nil
	}
	if err := unix.MunmapPtr(unsafe.Pointer(&r.mem[size]), uintptr(len(r.mem)-size)); err != nil {
		return fmt.Errorf("munmap: %w", err)
	}
	r.mem = r.mem[:size:size]
	if err := unix.Ftruncate(r.fd, int64(size)); err != nil {
		return fmt.Errorf("ftruncate: %w", err)
	}
	return nil
}

// longFree is from how many bytes on freeing takes long enough to be done beside: 1 GiB of small pages took 0.1 s.
const longFree = 64 << 20

func (r *region) free() error {
	err := unix.Close(r.fd)
	mem := r.mem
	r.mem = nil
	unmap := func() error { return unix.MunmapPtr(unsafe.Pointer(&mem[0]), uintptr(len(mem))) }
	if len(mem) < longFree {
		return errors.Join(err, unmap())
	}
	go unmap()
	return err
}

// makeHuge has the kernel put one page of hugePage bytes, cleared where nothing was written yet, behind mem, which is as long and aligned.
func makeHuge(mem []byte) error {
	// A page that is there shows the kernel where the others belong.
	if err := unix.Madvise(mem[:os.Getpagesize()], unix.MADV_POPULATE_WRITE); err != nil {
		return err
	}
	return unix.Madvise(mem, unix.MADV_COLLAPSE)
}
