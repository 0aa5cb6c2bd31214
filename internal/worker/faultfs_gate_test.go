//go:build gate && linux

package worker

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ndferry/store/dir"
)

// The calls that a fault can be in: those of the store's file system, and those of the network.
var (
	storeCalls = []string{"create", "open", "mkdir", "rename", "remove", "readdir", "stat", "syncdir", "read", "write", "allocate", "truncate", "sync", "size", "lock", "close"}
	netCalls   = []string{"accept", "recv", "send"}
)

// fault is what goes wrong: the nth call of a kind, or every one from there on.
type fault struct {
	call  string
	nth   int
	err   error
	stays bool
	only  func(path string) bool // nil: whatever the call is about

	seen, hits int
}

// faultFS is a file system in which what a test arms goes wrong. It also watches that nobody asks a file again to be durable that has
// refused it once.
type faultFS struct {
	dir.FS

	mu     sync.Mutex
	armed  *fault          // guarded by mu; nil: all is well
	failed map[string]bool // guarded by mu: files of which Sync failed and that lie where they lay
	lies   []string        // guarded by mu: calls on such files that make something of them
	total  map[string]int  // guarded by mu: faults by call
}

func newFaultFS(fs dir.FS) *faultFS {
	return &faultFS{FS: fs, failed: map[string]bool{}, total: map[string]int{}}
}

func (f *faultFS) arm(what *fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = what
}

// disarm ends the fault and tells how often it was.
func (f *faultFS) disarm() (hits int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed != nil {
		hits, f.armed = f.armed.hits, nil
	}
	return hits
}

func (f *faultFS) step(call, p string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.armed
	if a == nil || a.call != call || a.only != nil && !a.only(p) {
		return nil
	}
	if a.seen++; a.seen < a.nth || a.seen > a.nth && !a.stays {
		return nil
	}
	a.hits++
	f.total[call]++
	if call == "sync" {
		f.failed[p] = true
	}
	return &fs.PathError{Op: "injected " + call, Path: p, Err: a.err}
}

// lie notes a call that trusts a file of which Sync has failed.
func (f *faultFS) lie(call, p string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed[p] {
		f.lies = append(f.lies, call+" "+p)
	}
}

// moved forgets what is no longer at its place.
func (f *faultFS) moved(from string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.failed {
		if p == from || strings.HasPrefix(p, from+"/") {
			delete(f.failed, p)
		}
	}
}

func (f *faultFS) Create(p string) (dir.File, error) {
	if err := f.step("create", p); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.Create(p))(p)
}

func (f *faultFS) OpenFile(p string, write bool) (dir.File, error) {
	if err := f.step("open", p); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.OpenFile(p, write))(p)
}

func (f *faultFS) wrap(file dir.File, err error) func(string) (dir.File, error) {
	return func(p string) (dir.File, error) {
		if err != nil {
			return nil, err
		}
		return &faultFile{file, f, p}, nil
	}
}

func (f *faultFS) Mkdir(p string) error {
	if err := f.step("mkdir", p); err != nil {
		return err
	}
	return f.FS.Mkdir(p)
}

func (f *faultFS) Rename(from, to string, mode dir.RenameMode) error {
	if err := f.step("rename", from); err != nil {
		return err
	}
	if strings.HasPrefix(to, "zarr/") {
		f.publish(from)
	}
	err := f.FS.Rename(from, to, mode)
	if err == nil {
		f.moved(from)
		f.moved(to)
	}
	return err
}

// publish notes a node that gets its name with a file of which Sync has failed.
func (f *faultFS) publish(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.failed {
		if path.Dir(p) == node {
			f.lies = append(f.lies, "publish "+p)
		}
	}
}

func (f *faultFS) Remove(p string) error {
	if err := f.step("remove", p); err != nil {
		return err
	}
	f.moved(p)
	return f.FS.Remove(p)
}

func (f *faultFS) ReadDir(p string) ([]dir.Entry, error) {
	if err := f.step("readdir", p); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(p)
}

func (f *faultFS) Stat(p string) (dir.Stat, error) {
	if err := f.step("stat", p); err != nil {
		return dir.Stat{}, err
	}
	return f.FS.Stat(p)
}

func (f *faultFS) SyncDir(p string) error {
	if err := f.step("syncdir", p); err != nil {
		return err
	}
	return f.FS.SyncDir(p)
}

type faultFile struct {
	dir.File
	f    *faultFS
	path string
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.f.step("read", f.path); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// WriteAt writes half of the bytes before it fails, as a disk that fills up does.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.f.step("write", f.path); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *faultFile) Allocate(size int64) error {
	if err := f.f.step("allocate", f.path); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.f.step("truncate", f.path); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Sync of a file that failed once is a lie: Linux has marked its pages clean.
func (f *faultFile) Sync() error {
	f.f.lie("sync", f.path)
	if err := f.f.step("sync", f.path); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultFile) Size() (int64, error) {
	if err := f.f.step("size", f.path); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *faultFile) Lock(mode dir.LockMode) error {
	if err := f.f.step("lock", f.path); err != nil {
		return err
	}
	return f.File.Lock(mode)
}

// Close closes, and may report an error all the same.
func (f *faultFile) Close() error {
	err := f.File.Close()
	if e := f.f.step("close", f.path); e != nil {
		return e
	}
	return err
}

// faultListener is a listener of which calls go wrong as those of a faultFS do.
type faultListener struct {
	net.Listener
	f *faultFS
}

func (l faultListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if err := l.f.step("accept", ""); err != nil {
		nc.Close()
		return nil, fmt.Errorf("accept: %w", err)
	}
	return faultConn{nc, l.f}, nil
}

type faultConn struct {
	net.Conn
	f *faultFS
}

func (c faultConn) Read(p []byte) (int, error) {
	if err := c.f.step("recv", ""); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write sends half of the bytes before it fails.
func (c faultConn) Write(p []byte) (int, error) {
	if err := c.f.step("send", ""); err != nil {
		n, _ := c.Conn.Write(p[:len(p)/2])
		return n, err
	}
	return c.Conn.Write(p)
}

// quickStore is where a store of a test lies that makes thousands of syncs and loses no power: in memory.
func quickStore(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("/dev/shm", "ndferry-faults-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	return filepath.Join(base, "store")
}
