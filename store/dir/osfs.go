//go:build unix

package dir

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"ndferry/store"
)

var (
	_ FS   = (*OS)(nil)
	_ File = osFile{}
)

// OS is the FS of the operating system below one directory. It stands on os.Root, so a symbolic link that somebody
// put into the store cannot lead out of it.
type OS struct{ root *os.Root }

// NewOS returns the file system below directory, which must exist.
func NewOS(directory string) (*OS, error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	return &OS{root}, nil
}

func (o *OS) Close() error { return o.root.Close() }

func (o *OS) Create(name string) (File, error) {
	return o.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (o *OS) OpenFile(name string, write bool) (File, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	// A FIFO that somebody left in a node must not hang the server.
	return o.open(name, flag|syscall.O_NONBLOCK)
}

func (o *OS) open(name string, flag int) (File, error) {
	f, err := o.root.OpenFile(name, flag|syscall.O_NOFOLLOW, 0o666)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil {
		return nil, errors.Join(err, f.Close())
	} else if !info.Mode().IsRegular() {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return osFile{f}, nil
}

func (o *OS) Mkdir(name string) error  { return o.root.Mkdir(name, 0o777) }
func (o *OS) Remove(name string) error { return o.root.Remove(name) }

func (o *OS) Rename(from, to string, mode RenameMode) error {
	if mode == RenameReplace {
		return o.root.Rename(from, to)
	}
	fromDir, err := o.root.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer fromDir.Close()
	toDir, err := o.root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer toDir.Close()
	err = withFd(fromDir, func(a int) error {
		return withFd(toDir, func(b int) error {
			return ignoringEINTR(func() error { return rename2(a, path.Base(from), b, path.Base(to), mode) })
		})
	})
	if err != nil {
		return &os.LinkError{Op: "rename " + mode.String(), Old: from, New: to, Err: err}
	}
	return nil
}

func (o *OS) ReadDir(name string) ([]Entry, error) {
	d, err := o.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	found, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(found))
	for i, e := range found {
		entries[i] = Entry{Name: e.Name(), Dir: e.IsDir()}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

func (o *OS) Stat(name string) (Stat, error) {
	info, err := o.root.Lstat(name)
	if err != nil {
		return Stat{}, err
	}
	s := Stat{Dir: info.IsDir(), Regular: info.Mode().IsRegular(), Size: info.Size(), Modified: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Device = uint64(sys.Dev)
	}
	return s, nil
}

func (o *OS) SyncDir(name string) error {
	d, err := o.root.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

type osFile struct{ f *os.File }

func (o osFile) ReadAt(p []byte, off int64) (int, error)  { return o.f.ReadAt(p, off) }
func (o osFile) WriteAt(p []byte, off int64) (int, error) { return o.f.WriteAt(p, off) }
func (o osFile) Truncate(size int64) error                { return o.f.Truncate(size) }
func (o osFile) Close() error                             { return o.f.Close() }

func (o osFile) Size() (int64, error) {
	info, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (o osFile) Allocate(size int64) error {
	if size == 0 {
		return nil
	}
	return o.call("allocate", func(fd int) error { return allocate(fd, size) })
}

func (o osFile) WriteBack(off, length int64) {
	_ = o.call("write back", func(fd int) error { return writeBack(fd, off, length) })
}

func (o osFile) Sync() error { return o.call("sync", dataSync) }

// Lock uses flock(2), whose locks belong to the open file and not to the process as those of fcntl(2) do: closing another
// descriptor of the file does not drop them.
func (o osFile) Lock(mode LockMode) error {
	how := unix.LOCK_EX
	switch mode {
	case LockShared:
		how = unix.LOCK_SH
	case LockTry:
		how |= unix.LOCK_NB
	}
	err := o.call("lock", func(fd int) error { return unix.Flock(fd, how) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %w", store.ErrLocked, err)
	}
	return err
}

func (o osFile) Unlock() error {
	return o.call("unlock", func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) })
}

func (o osFile) call(op string, f func(fd int) error) error {
	err := withFd(o.f, func(fd int) error { return ignoringEINTR(func() error { return f(fd) }) })
	if err != nil {
		return &fs.PathError{Op: op, Path: o.f.Name(), Err: err}
	}
	return nil
}

// withFd lends the descriptor of f to do. (os.File.Fd would make the file blocking for good.)
func withFd(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	inner := io.ErrUnexpectedEOF
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
