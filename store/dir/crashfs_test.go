package dir_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"ndferry/store/dir"
)

// crashFS is a file system in memory that keeps apart what a power cut cannot take (what was synced) from what it can. image makes
// one of the disks that a cut could leave: of what was not synced, each change of a directory is there or not, in any order
// that names allow, and each write of a file is there, not there, or torn.
type crashFS struct {
	mu    sync.Mutex
	now   map[*inode]map[string]*inode // directories as programs see them
	disk  map[*inode]map[string]*inode // directories as of the beginning of log
	log   []*dirOp                     // changes since
	root  *inode
	calls int // that change something
	dead  int // the call from which on everything fails; 0: none
}

// inode is a directory, or a file with what it held when it was synced last and the writes since.
type inode struct {
	isDir   bool
	data    []byte // as programs see it
	synced  []byte
	pending []fileOp
}

type fileOp struct {
	off      int64 // of a write
	data     []byte
	truncate int64 // -1: it is a write
}

// dirOp is a change of one or two directory entries that is there as a whole or not.
type dirOp struct {
	keys    []dirKey
	apply   func(map[*inode]map[string]*inode)
	durable bool
}

type dirKey struct {
	dir  *inode
	name string
}

func newCrashFS() *crashFS {
	c := &crashFS{root: &inode{isDir: true}}
	c.now = map[*inode]map[string]*inode{c.root: {}}
	c.disk = map[*inode]map[string]*inode{c.root: {}}
	return c
}

var errDead = &fs.PathError{Op: "crashed", Path: "/", Err: syscall.EIO}

// step counts a call that changes something.
func (c *crashFS) step() error {
	c.calls++
	if c.dead > 0 && c.calls >= c.dead {
		return errDead
	}
	return nil
}

func (c *crashFS) alive() error {
	if c.dead > 0 && c.calls >= c.dead {
		return errDead
	}
	return nil
}

func (c *crashFS) find(p string) (*inode, error) {
	n := c.root
	if p == "." {
		return n, nil
	}
	for _, part := range strings.Split(p, "/") {
		if !n.isDir {
			return nil, &fs.PathError{Op: "find", Path: p, Err: syscall.ENOTDIR}
		}
		next := c.now[n][part]
		if next == nil {
			return nil, &fs.PathError{Op: "find", Path: p, Err: syscall.ENOENT}
		}
		n = next
	}
	return n, nil
}

func (c *crashFS) change(op *dirOp) {
	op.apply(c.now)
	c.log = append(c.log, op)
}

func (c *crashFS) key(p string) (dirKey, error) {
	d, err := c.find(path.Dir(p))
	return dirKey{d, path.Base(p)}, err
}

func (c *crashFS) link(p string, n *inode) error {
	if err := c.step(); err != nil {
		return err
	}
	k, err := c.key(p)
	if err != nil {
		return err
	}
	if c.now[k.dir][k.name] != nil {
		return &fs.PathError{Op: "link", Path: p, Err: syscall.EEXIST}
	}
	if n.isDir {
		c.now[n] = map[string]*inode{}
	}
	c.change(&dirOp{keys: []dirKey{k}, apply: func(t map[*inode]map[string]*inode) {
		if t[n] == nil && n.isDir {
			t[n] = map[string]*inode{}
		}
		if t[k.dir] != nil {
			t[k.dir][k.name] = n
		}
	}})
	return nil
}

func (c *crashFS) Create(p string) (dir.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &inode{}
	if err := c.link(p, n); err != nil {
		return nil, err
	}
	return &crashFile{c, n, false}, nil
}

func (c *crashFS) OpenFile(p string, write bool) (dir.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.alive(); err != nil {
		return nil, err
	}
	n, err := c.find(p)
	if err != nil {
		return nil, err
	}
	return &crashFile{c, n, false}, nil
}

func (c *crashFS) Mkdir(p string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link(p, &inode{isDir: true})
}

func (c *crashFS) Rename(from, to string, mode dir.RenameMode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.step(); err != nil {
		return err
	}
	a, err := c.key(from)
	if err != nil {
		return err
	}
	b, err := c.key(to)
	if err != nil {
		return err
	}
	moved, there := c.now[a.dir][a.name], c.now[b.dir][b.name]
	switch {
	case moved == nil || mode == dir.RenameExchange && there == nil:
		return &fs.PathError{Op: "rename", Path: from, Err: syscall.ENOENT}
	case mode == dir.RenameNoReplace && there != nil:
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EEXIST}
	}
	c.change(&dirOp{keys: []dirKey{a, b}, apply: func(t map[*inode]map[string]*inode) {
		if t[a.dir] == nil || t[b.dir] == nil || t[a.dir][a.name] == nil {
			return
		}
		old := t[b.dir][b.name]
		t[b.dir][b.name] = t[a.dir][a.name]
		delete(t[a.dir], a.name)
		if mode == dir.RenameExchange && old != nil {
			t[a.dir][a.name] = old
		}
	}})
	return nil
}

func (c *crashFS) Remove(p string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.step(); err != nil {
		return err
	}
	n, err := c.find(p)
	if err != nil {
		return err
	}
	if n.isDir && len(c.now[n]) > 0 {
		return &fs.PathError{Op: "remove", Path: p, Err: syscall.ENOTEMPTY}
	}
	k, err := c.key(p)
	if err != nil {
		return err
	}
	c.change(&dirOp{keys: []dirKey{k}, apply: func(t map[*inode]map[string]*inode) { delete(t[k.dir], k.name) }})
	return nil
}

func (c *crashFS) ReadDir(p string) ([]dir.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.find(p)
	if err := cmpErr(c.alive(), err); err != nil {
		return nil, err
	}
	var list []dir.Entry
	for _, name := range slices.Sorted(maps.Keys(c.now[n])) {
		list = append(list, dir.Entry{Name: name, Dir: c.now[n][name].isDir})
	}
	return list, nil
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *crashFS) Stat(p string) (dir.Stat, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.find(p)
	if err := cmpErr(c.alive(), err); err != nil {
		return dir.Stat{}, err
	}
	return dir.Stat{Dir: n.isDir, Regular: !n.isDir, Size: int64(len(n.data))}, nil
}

// SyncDir makes the changes of the directory durable, and with them the earlier ones that they build on.
func (c *crashFS) SyncDir(p string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.step(); err != nil {
		return err
	}
	n, err := c.find(p)
	if err != nil {
		return err
	}
	needed := map[dirKey]bool{}
	for _, op := range slices.Backward(c.log) {
		for _, k := range op.keys {
			op.durable = op.durable || k.dir == n || needed[k]
		}
		if op.durable {
			for _, k := range op.keys {
				needed[k] = true
			}
		}
	}
	return nil
}

func (c *crashFS) Close() error { return nil }

type crashFile struct {
	c    *crashFS
	n    *inode
	lock bool
}

func (f *crashFile) ReadAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.alive(); err != nil {
		return 0, err
	}
	if off > int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.step(); err != nil {
		return 0, err
	}
	op := fileOp{off, slices.Clone(p), -1}
	f.n.data = op.on(f.n.data, len(p))
	f.n.pending = append(f.n.pending, op)
	return len(p), nil
}

// on applies the first n bytes of a write, or a change of the size.
func (op fileOp) on(data []byte, n int) []byte {
	size := max(len(data), int(op.off)+n)
	if op.truncate >= 0 {
		size = int(op.truncate)
	}
	out := make([]byte, size)
	copy(out, data)
	if op.truncate < 0 {
		copy(out[op.off:], op.data[:n])
	}
	return out
}

func (f *crashFile) Truncate(size int64) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.step(); err != nil {
		return err
	}
	op := fileOp{truncate: size}
	f.n.data = op.on(f.n.data, 0)
	f.n.pending = append(f.n.pending, op)
	return nil
}

func (f *crashFile) Allocate(size int64) error { return f.Truncate(size) }
func (f *crashFile) WriteBack(int64, int64)    {}

func (f *crashFile) Sync() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.step(); err != nil {
		return err
	}
	f.n.synced, f.n.pending = slices.Clone(f.n.data), nil
	return nil
}

func (f *crashFile) Size() (int64, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return int64(len(f.n.data)), f.c.alive()
}

func (f *crashFile) Lock(dir.LockMode) error { return nil }
func (f *crashFile) Unlock() error           { return nil }

func (f *crashFile) Close() error { return nil }

// image returns one of the disks that a power cut at this moment could leave, and its hash. keep is how likely it is that a change
// that was not synced is there.
func (c *crashFS) image(random *rand.Rand, keep float64) (*crashFS, [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tree := map[*inode]map[string]*inode{}
	for d, entries := range c.disk {
		tree[d] = maps.Clone(entries)
	}
	lost := map[dirKey]bool{}
	for _, op := range c.log {
		there := op.durable || random.Float64() < keep
		for _, k := range op.keys {
			there = there && (op.durable || !lost[k])
		}
		if there {
			op.apply(tree)
			continue
		}
		for _, k := range op.keys {
			lost[k] = true
		}
	}
	h := sha256.New()
	out := newCrashFS()
	out.copyTree(c.root, out.root, tree, random, keep, h, "")
	return out, [32]byte(h.Sum(nil))
}

func (c *crashFS) copyTree(from, to *inode, tree map[*inode]map[string]*inode, random *rand.Rand, keep float64, h io.Writer, at string) {
	for _, name := range slices.Sorted(maps.Keys(tree[from])) {
		n := tree[from][name]
		m := &inode{isDir: n.isDir}
		if !n.isDir {
			m.data = n.survivor(random, keep)
			m.synced = slices.Clone(m.data)
		}
		c.now[to][name], c.disk[to][name] = m, m
		fmt.Fprintf(h, "%s/%s %v %d\n%s", at, name, n.isDir, len(m.data), m.data)
		if n.isDir {
			c.now[m], c.disk[m] = map[string]*inode{}, map[string]*inode{}
			c.copyTree(n, m, tree, random, keep, h, at+"/"+name)
		}
	}
}

// survivor returns what a file could hold after a power cut.
func (n *inode) survivor(random *rand.Rand, keep float64) []byte {
	data := slices.Clone(n.synced)
	for _, op := range n.pending {
		switch {
		case random.Float64() < keep:
			data = op.on(data, len(op.data))
		case op.truncate < 0 && random.IntN(2) == 0:
			data = op.on(data, random.IntN(len(op.data)+1))
		case op.truncate < 0 && random.IntN(3) == 0: // the size is there and the bytes are not
			zeros := fileOp{op.off, make([]byte, len(op.data)), -1}
			if int(op.off) >= len(data) {
				data = zeros.on(data, len(op.data))
			}
		}
	}
	return data
}
