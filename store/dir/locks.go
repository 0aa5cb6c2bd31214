package dir

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// The files on which the processes that have the store open lock each other out (STORE.md §4).
const (
	namesFile   = stateDir + "/names"
	visibleFile = stateDir + "/visible"
	claimsFile  = stateDir + "/claims"
)

// fileLock excludes the goroutines of this process and all other processes. The lock of a process that dies is gone.
type fileLock struct {
	mu sync.Mutex
	f  File
}

func (l *fileLock) lock() error {
	l.mu.Lock()
	if err := l.f.Lock(LockExclusive); err != nil {
		l.mu.Unlock()
		return err
	}
	return nil
}

func (l *fileLock) unlock() {
	// That fails only for a file that is not open; Close ends the lock, too.
	_ = l.f.Unlock()
	l.mu.Unlock()
}

// openLockFile opens a file of state, and makes it when it is missing.
func (s *Store) openLockFile(name string) (File, error) {
	f, err := s.fs.Create(name)
	if errors.Is(err, fs.ErrExist) {
		f, err = s.fs.OpenFile(name, true)
	}
	return f, err
}

// words are the first bytes of state/names, u64 little-endian each. They are what processes tell each other while they live, so they
// are never synced: after a crash of the system any values are right.
type words struct {
	groups   uint64 // changes when a group goes: what was settled is to be settled again
	log      uint64 // changes when the log of receipts is another file
	opened   uint64 // how often the store was opened; the number of a process
	broken   uint64 // 1: the end of the log of receipts is not known
	changing uint64 // of a change that is not durable yet: the length of the directory's path, which follows; 0: there is none
}

const wordsSize = 40

func (w *words) encode() []byte {
	var b []byte
	for _, v := range []uint64{w.groups, w.log, w.opened, w.broken, w.changing} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// nameLock is the lock on names: changes of names, and appends to the log of receipts, happen one at a time in all processes.
type nameLock struct {
	fileLock
	s     *Store
	words words // guarded by the lock
}

// lock takes the lock and repairs first what a process that died has left undecided.
func (l *nameLock) lock() error {
	if err := l.lockOnly(); err != nil {
		return err
	}
	if err := l.repair(); err != nil {
		l.unlock()
		return err
	}
	return nil
}

// lockOnly takes the lock and reads the words.
func (l *nameLock) lockOnly() error {
	if err := l.fileLock.lock(); err != nil {
		return err
	}
	w, err := l.peek()
	if err != nil {
		l.unlock()
		return err
	}
	if w.groups != l.words.groups {
		clear(l.s.settled)
	}
	l.words = w
	return nil
}

// peek reads the words, which another process may be changing unless the lock is held.
func (l *nameLock) peek() (words, error) {
	var b [wordsSize]byte
	if _, err := l.f.ReadAt(b[:], 0); err == io.EOF || err == io.ErrUnexpectedEOF {
		return words{}, nil // a new file, or one whose writes a crash took back
	} else if err != nil {
		return words{}, err
	}
	var w words
	for i, v := range []*uint64{&w.groups, &w.log, &w.opened, &w.broken, &w.changing} {
		*v = binary.LittleEndian.Uint64(b[8*i:])
	}
	return w, nil
}

// put tells the other processes what change makes of the words. The lock must be held.
func (l *nameLock) put(change func(*words), text string) error {
	w := l.words
	change(&w)
	if _, err := l.f.WriteAt(append(w.encode(), text...), 0); err != nil {
		return err
	}
	l.words = w
	return nil
}

// repair closes the log of receipts and the change of a name that a process left open when it died: nobody is at either while the lock
// is held.
func (l *nameLock) repair() error {
	if err := l.s.receipts.catchUp(); err != nil {
		return err
	}
	if n := l.words.changing; n > 0 {
		if err := l.settleChange(n); err != nil {
			return err
		}
	}
	return l.s.settleIntents()
}

// settleChange makes the change durable that a process left when it died.
func (l *nameLock) settleChange(n uint64) error {
	text := make([]byte, min(n, uint64(len(zarrDir)+1+maxNamePath)))
	if _, err := l.f.ReadAt(text, wordsSize); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	for p := string(text); p == zarrDir || strings.HasPrefix(p, zarrDir+"/"); p = path.Dir(p) {
		if err := l.s.fs.SyncDir(p); err != nil && !isMissing(err) {
			return err
		}
	}
	return l.put(func(w *words) { w.changing = 0 }, "")
}

// forgetSettled makes all processes settle groups anew. It comes before a group goes.
func (l *nameLock) forgetSettled() error {
	clear(l.s.settled)
	return l.put(func(w *words) { w.groups++ }, "")
}

// visibility keeps readers of names out while one changes until that is durable. Only who has the lock on names changes one, and says so in
// state/names: a reader that meets a change there, which is waiting for readers or was left by a process that died, waits for the lock
// on names, so that neither readers keep a change waiting for ever nor a dead process's change is seen before it is durable.
type visibility struct {
	s  *Store
	rw sync.RWMutex // among the goroutines of this process
	f  File

	mu      sync.Mutex
	readers int // guarded by mu: goroutines that share the lock on f
}

func (v *visibility) rlock() error {
	for {
		ok, err := v.tryRLock()
		if ok || err != nil {
			return err
		}
		if err := v.s.names.lock(); err != nil {
			return err
		}
		v.s.names.unlock()
	}
}

// tryRLock takes the lock unless a change is told of.
func (v *visibility) tryRLock() (ok bool, err error) {
	v.rw.RLock()
	v.mu.Lock()
	defer func() {
		v.mu.Unlock()
		if !ok {
			v.rw.RUnlock()
		}
	}()
	if v.readers == 0 {
		if err := v.f.Lock(LockShared); err != nil {
			return false, err
		}
	}
	w, err := v.s.names.peek()
	if err == nil && w.changing == 0 {
		v.readers++
		return true, nil
	}
	if v.readers == 0 {
		err = errors.Join(err, v.f.Unlock())
	}
	return false, err
}

func (v *visibility) runlock() {
	v.mu.Lock()
	if v.readers--; v.readers == 0 {
		_ = v.f.Unlock()
	}
	v.mu.Unlock()
	v.rw.RUnlock()
}

// lock begins a change in a directory. The lock on names must be held.
func (v *visibility) lock(directory string) error {
	if err := v.s.names.put(func(w *words) { w.changing = uint64(len(directory)) }, directory); err != nil {
		return err
	}
	v.rw.Lock()
	if err := v.f.Lock(LockExclusive); err != nil {
		v.rw.Unlock()
		return err
	}
	return nil
}

// unlock ends a change, which is durable or undone.
func (v *visibility) unlock() {
	if err := v.s.names.put(func(w *words) { w.changing = 0 }, ""); err != nil {
		v.s.log.Warn("store: the end of a change is told late; readers wait for the next one", "error", err)
	}
	_ = v.f.Unlock()
	v.rw.Unlock()
}
