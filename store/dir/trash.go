package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
)

// trash is state/trash: what was replaced, deleted or given up, until a goroutine has removed it, and what is being built before it is
// renamed into place, which nobody misses after a crash.
type trash struct {
	s *Store

	mu      sync.Mutex
	idle    sync.Cond       // of mu
	count   int             // guarded by mu: names given out
	left    map[string]bool // guarded by mu: names that processes before this one have left
	running bool            // guarded by mu: a goroutine removes
	again   bool            // guarded by mu: and has to look again
	keep    map[string]bool // guarded by mu: names that are not to be removed yet
}

func (t *trash) init(s *Store) {
	t.s = s
	t.idle.L = &t.mu
	t.keep = map[string]bool{}
}

// begin gives the process its number, which begins the names that it gives out, finds out which names others have left, and
// removes what they name. Only rubbish has a name of another process while the lock on names, which must be held, is free for us: what is
// being built, or may still have to go back, is so under that lock.
func (t *trash) begin() error {
	entries, err := t.s.fs.ReadDir(trashDir)
	if err != nil {
		return err
	}
	t.s.process = t.s.names.words.opened + 1
	t.left = map[string]bool{}
	for _, e := range entries {
		process, _, _ := strings.Cut(e.Name, "-")
		if n, err := strconv.ParseUint(process, 10, 63); err == nil && n >= t.s.process {
			t.s.process = n + 1 // the words are younger than the names
		}
		t.left[e.Name] = true
	}
	if err := t.s.names.put(func(w *words) { w.opened = t.s.process }, ""); err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	// A server that was killed may have moved an array here in memory only: nothing of it may go before the move is durable.
	if err := t.s.fs.SyncDir(trashDir); err != nil {
		return err
	}
	t.purge()
	return nil
}

// next returns a free path in the trash, which is kept until drop.
func (t *trash) next() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	name := fmt.Sprintf("%d-%d", t.s.process, t.count)
	t.keep[name] = true
	return trashDir + "/" + name
}

// move moves a file or directory to the trash and returns where it is kept until drop.
func (t *trash) move(from string) (string, error) {
	to := t.next()
	err := t.s.fs.Rename(from, to, RenameNoReplace)
	if err != nil {
		t.release(to)
	}
	return to, err
}

// drop removes, in the background, what next or move gave.
func (t *trash) drop(p string) {
	t.release(p)
	t.purge()
}

func (t *trash) release(p string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.keep, path.Base(p))
}

// purge removes, in the background, everything in the trash that is not kept.
func (t *trash) purge() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.again = true
	if t.running {
		return
	}
	t.running = true
	go t.run()
}

// wait waits until the trash is empty, or until what is left cannot be removed.
func (t *trash) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.running {
		t.idle.Wait()
	}
}

func (t *trash) run() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.again {
		t.again = false
		t.mu.Unlock()
		err := t.empty()
		t.mu.Lock()
		if err != nil {
			t.s.log.Warn("store: cannot remove trash; it stays until the next removal or start", "error", err)
		}
	}
	t.running = false
	t.idle.Broadcast()
}

func (t *trash) empty() error {
	entries, err := t.s.fs.ReadDir(trashDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		t.mu.Lock()
		remove := t.left[e.Name] || strings.HasPrefix(e.Name, fmt.Sprintf("%d-", t.s.process)) && !t.keep[e.Name]
		t.mu.Unlock()
		if remove {
			errs = append(errs, t.remove(trashDir+"/"+e.Name, e.Dir, 2*walkDepth))
		}
	}
	return errors.Join(errs...)
}

func (t *trash) remove(p string, isDir bool, depth int) error {
	if depth == 0 {
		return fmt.Errorf("remove %s: too deep", p)
	}
	if isDir {
		entries, err := t.s.fs.ReadDir(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // its own process was faster
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := t.remove(p+"/"+e.Name, e.Dir, depth-1); err != nil {
				return err
			}
		}
	}
	if err := t.s.fs.Remove(p); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
