package dir_test

import (
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"

	"ndferry/store/dir"
)

// scriptFS is a file system that writes down what it is asked for and fails where a test says so.
type scriptFS struct {
	dir.FS

	mu     sync.Mutex
	calls  []string      // guarded by mu
	fail   map[int]error // guarded by mu: by number of the call, from 1
	from   int           // guarded by mu: every call from this one on fails with err; 0: none
	err    error         // guarded by mu
	hit    int           // guarded by mu: failures
	silent bool          // guarded by mu: calls are not counted

	readOnly error // guarded by mu: what changes meet
}

// step notes a call and decides whether it fails.
func (s *scriptFS) step(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return nil
	}
	call := fmt.Sprintf(format, args...)
	s.calls = append(s.calls, call)
	n := len(s.calls)
	err := s.fail[n]
	if s.from > 0 && n >= s.from {
		err = s.err
	}
	if op, _, _ := strings.Cut(call, " "); s.readOnly != nil && !reading[op] {
		err = s.readOnly
	}
	if err != nil {
		s.hit++
		return &fs.PathError{Op: "injected", Path: call, Err: err}
	}
	return nil
}

func (s *scriptFS) script(from int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.err = from, err
}

// heal ends injection and the count of calls.
func (s *scriptFS) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

// failed reports whether anything was injected.
func (s *scriptFS) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hit > 0
}

// reading are the calls that change nothing.
var reading = map[string]bool{"open": true, "readdir": true, "stat": true, "size": true, "read": true, "close": true}

// changes returns the calls that change something or make it durable, without the removal of trash, which happens beside them.
func (s *scriptFS) changes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, c := range s.calls {
		op, rest, _ := strings.Cut(c, " ")
		if !reading[op] && !(op == "remove" && strings.HasPrefix(rest, "state/trash/")) {
			list = append(list, c)
		}
	}
	return list
}

func (s *scriptFS) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

func (s *scriptFS) Create(p string) (dir.File, error) {
	if err := s.step("create %s", p); err != nil {
		return nil, err
	}
	f, err := s.FS.Create(p)
	return s.wrap(f, p), err
}

func (s *scriptFS) OpenFile(p string, write bool) (dir.File, error) {
	if err := s.step("open %s", p); err != nil {
		return nil, err
	}
	f, err := s.FS.OpenFile(p, write)
	return s.wrap(f, p), err
}

func (s *scriptFS) wrap(f dir.File, p string) dir.File {
	if f == nil {
		return nil
	}
	return &scriptFile{f, s, p}
}

func (s *scriptFS) Mkdir(p string) error {
	if err := s.step("mkdir %s", p); err != nil {
		return err
	}
	return s.FS.Mkdir(p)
}

func (s *scriptFS) Rename(from, to string, mode dir.RenameMode) error {
	if err := s.step("rename %s %s %s", mode, from, to); err != nil {
		return err
	}
	return s.FS.Rename(from, to, mode)
}

func (s *scriptFS) Remove(p string) error {
	if err := s.step("remove %s", p); err != nil {
		return err
	}
	return s.FS.Remove(p)
}

func (s *scriptFS) ReadDir(p string) ([]dir.Entry, error) {
	if err := s.step("readdir %s", p); err != nil {
		return nil, err
	}
	return s.FS.ReadDir(p)
}

func (s *scriptFS) Stat(p string) (dir.Stat, error) {
	if err := s.step("stat %s", p); err != nil {
		return dir.Stat{}, err
	}
	return s.FS.Stat(p)
}

func (s *scriptFS) SyncDir(p string) error {
	if err := s.step("syncdir %s", p); err != nil {
		return err
	}
	return s.FS.SyncDir(p)
}

type scriptFile struct {
	dir.File
	s    *scriptFS
	path string
}

func (f *scriptFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.s.step("read %s %d+%d", f.path, off, len(p)); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// WriteAt writes half of the bytes before it fails, as a disk that fills up does.
func (f *scriptFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.s.step("write %s %d+%d", f.path, off, len(p)); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *scriptFile) Allocate(size int64) error {
	if err := f.s.step("allocate %s %d", f.path, size); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

func (f *scriptFile) Truncate(size int64) error {
	if err := f.s.step("truncate %s %d", f.path, size); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *scriptFile) Sync() error {
	if err := f.s.step("sync %s", f.path); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *scriptFile) Size() (int64, error) {
	if err := f.s.step("size %s", f.path); err != nil {
		return 0, err
	}
	return f.File.Size()
}

// Close closes, and may report an error all the same.
func (f *scriptFile) Close() error {
	err := f.File.Close()
	if e := f.s.step("close %s", f.path); e != nil {
		return e
	}
	return err
}

func newScript(t interface{ Fatal(...any) }, path string) *scriptFS {
	o, err := dir.NewOS(path)
	if err != nil {
		t.Fatal(err)
	}
	return &scriptFS{FS: o, fail: map[int]error{}, err: syscall.EIO}
}

// refuseChanges lets everything that changes the file system fail from now on, as one that became read-only; nil ends it.
func (s *scriptFS) refuseChanges(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOnly = err
}
