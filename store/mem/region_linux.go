package mem

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// region is a mapping of a memfd. Its owner is an array, or the pool.
type region struct {
	fd  int
	mem []byte // whole pages
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
	r.mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	return r, nil
}

// shrink gives the memory behind size, whole pages, back to the system.
func (r *region) shrink(size int) error {
	if size == len(r.mem) {
		return nil
	}
	mem, err := unix.Mremap(r.mem, size, 0)
	if err != nil {
		return fmt.Errorf("mremap: %w", err)
	}
	r.mem = mem
	if err := unix.Ftruncate(r.fd, int64(size)); err != nil {
		return fmt.Errorf("ftruncate: %w", err)
	}
	return nil
}

func (r *region) free() error {
	err := unix.Munmap(r.mem)
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
