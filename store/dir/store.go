package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"ndferry/array"
	"ndferry/store"
)

var _ store.Store = (*Store)(nil)

// The places of STORE.md, relative to the store's directory.
const (
	zarrDir      = "zarr"
	stateDir     = "state"
	formatFile   = stateDir + "/format"
	lockFile     = stateDir + "/lock"
	receiptsFile = stateDir + "/receipts"
	uploadsDir   = stateDir + "/uploads"
	trashDir     = stateDir + "/trash"
	zarrJSON     = "zarr.json"
	sidecarName  = ".ndferry"

	formatText = "ndferry store 1\n"
)

// Config says how a directory store works. The zero value is right.
type Config struct {
	// Shared opens the store beside other processes of one server, which has its Lock. Without it the store takes the lock.
	Shared bool
	// Owner is what other processes are told of this one in a store.OwnedError; "" is its pid.
	Owner string
	// FS is the file system below the store's directory; nil is the real one. The store closes it.
	FS FS
	// Now is the clock that dates receipts and ends their life; nil is time.Now.
	Now func() time.Time
	// Uptime is a clock that nobody sets, for the end of abandoned uploads; nil is the time since Open.
	Uptime func() time.Duration
	// Log gets what nobody can be told in an error; nil is slog.Default.
	Log *slog.Logger
}

// Store is a directory store. Its methods may be called from any goroutine.
type Store struct {
	fs     FS
	now    func() time.Time
	uptime func() time.Duration
	log    *slog.Logger
	server *serverLock // nil when the store is shared

	owner   string // of uploads that this process has
	process uint64 // number of this process among those that have opened the store

	names   nameLock        // serialises changes of names
	settled map[string]bool // guarded by names: groups of which the entry is durable
	visible visibility      // see the package's documentation
	claims  fileLock        // serialises what happens in state/uploads

	mu      sync.Mutex
	open    map[store.ID]*upload     // guarded by mu
	idle    map[store.ID]observation // guarded by mu: unfinished uploads that nobody has open
	expired time.Duration            // guarded by mu: when idle was looked through last
	spoiled map[store.ID]File        // guarded by mu: uploads that failed and could not be moved away, with their journal

	receipts *receiptLog
	trash    trash
}

// Open opens the store in directory, makes it when it is missing (its parent must exist), and repairs what a crash left
// undecided. ErrLocked when another server has it open.
func Open(directory string, config Config) (*Store, error) {
	s := &Store{
		fs: config.FS, now: config.Now, uptime: config.Uptime, log: config.Log, owner: config.Owner,
		settled: map[string]bool{}, open: map[store.ID]*upload{}, idle: map[store.ID]observation{}, spoiled: map[store.ID]File{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.uptime == nil {
		begin := time.Now()
		s.uptime = func() time.Duration { return time.Since(begin) }
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.owner == "" {
		s.owner = strconv.Itoa(os.Getpid())
	}
	s.names.s, s.visible.s = s, s
	s.trash.init(s)
	if s.fs == nil {
		var err error
		if s.fs, err = openDirectory(directory); err != nil {
			return nil, fmt.Errorf("dir: open %s: %w", directory, err)
		}
	}
	if err := s.start(config.Shared); err != nil {
		err = errors.Join(err, s.Close())
		return nil, fmt.Errorf("dir: open %s: %w", directory, withClass(err))
	}
	return s, nil
}

// openDirectory returns the real file system below directory, which it makes when it is missing.
func openDirectory(directory string) (FS, error) {
	err := os.Mkdir(directory, 0o777)
	if err == nil {
		parent, e := NewOS(filepath.Dir(directory))
		if e != nil {
			return nil, e
		}
		if err := errors.Join(parent.SyncDir("."), parent.Close()); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return NewOS(directory)
}

// Close waits for the removal of trash and releases the store.
func (s *Store) Close() error {
	s.trash.wait()
	var errs []error
	if s.receipts != nil {
		errs = append(errs, s.receipts.close())
	}
	for _, f := range s.spoiled {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	for _, f := range []File{s.names.f, s.visible.f, s.claims.f} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if s.server != nil {
		errs = append(errs, s.server.f.Close())
	}
	return errors.Join(append(errs, s.fs.Close())...)
}

// Instant reports that methods wait for the disk.
func (s *Store) Instant() bool { return false }

// start makes what is missing of the layout, takes the lock and recovers.
func (s *Store) start(shared bool) (err error) {
	if err := s.checkFormat(); err != nil {
		return err
	}
	if err := s.makeDir(stateDir); err != nil {
		return err
	}
	if !shared {
		if s.server, err = s.takeLock(); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		name string
		f    *File
	}{{namesFile, &s.names.f}, {visibleFile, &s.visible.f}, {claimsFile, &s.claims.f}} {
		if *l.f, err = s.openLockFile(l.name); err != nil {
			return err
		}
	}
	if err := s.names.lockOnly(); err != nil {
		return err
	}
	defer s.names.unlock()
	if err := s.layOut(); err != nil {
		return err
	}
	return s.recover()
}

// layOut makes what is missing of the layout. The lock on names must be held.
func (s *Store) layOut() error {
	for _, name := range []string{uploadsDir, trashDir, zarrDir} {
		if err := s.makeDir(name); err != nil {
			return err
		}
	}
	if err := s.checkDevice(); err != nil {
		return err
	}
	if err := s.trash.begin(); err != nil {
		return err
	}
	if err := s.makeFile(zarrDir+"/"+zarrJSON, array.AppendGroup(nil)); err != nil {
		return err
	}
	if err := s.makeFile(formatFile, []byte(formatText)); err != nil {
		return err
	}
	for _, name := range []string{zarrDir, stateDir, "."} {
		if err := s.fs.SyncDir(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) makeDir(name string) error {
	if err := s.fs.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// makeFile makes a file of the layout, whole or not at all, unless it is there.
func (s *Store) makeFile(name string, content []byte) error {
	if _, err := s.fs.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp := s.trash.next()
	defer s.trash.release(temp)
	if err := s.writeFile(temp, content, true); err != nil {
		return err
	}
	return s.fs.Rename(temp, name, RenameReplace)
}

// writeFile makes a file, with durable content when that is asked for; its directory is still to be synced.
func (s *Store) writeFile(name string, content []byte, durable bool) error {
	f, err := s.fs.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// readFile returns a file of at most limit bytes.
func (s *Store) readFile(name string, limit int64) ([]byte, error) {
	f, err := s.fs.OpenFile(name, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &damage{name, limit, fmt.Sprintf("%d bytes, the most is %d:", size, limit)}
	}
	content := make([]byte, size)
	if _, err := f.ReadAt(content, 0); err != nil {
		return nil, err
	}
	return content, nil
}

func (s *Store) checkFormat() error {
	content, err := s.readFile(formatFile, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && string(content) != formatText {
		err = fmt.Errorf("%w: %s says %q and this program knows %q: use the ndferry that made the store", store.ErrInvalid, formatFile, content, formatText)
	}
	return err
}

func (s *Store) checkDevice() error {
	a, err := s.fs.Stat(stateDir)
	if err != nil {
		return err
	}
	b, err := s.fs.Stat(zarrDir)
	if err != nil {
		return err
	}
	if a.Device != b.Device {
		return fmt.Errorf("%w: zarr and state are on different file systems; a commit renames from one to the other, so mount one file system at their parent", store.ErrInvalid)
	}
	return nil
}

// nodePath returns where the array of that name lies.
func nodePath(name string) string { return zarrDir + "/" + name }

func uploadPath(id store.ID) string { return fmt.Sprintf("%s/%x", uploadsDir, id[:]) }

// withClass adds the error of package store that belongs to an errno.
func withClass(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w: remove arrays or enlarge the file system", store.ErrNoSpace, err)
	}
	return err
}

// opError names operation and array.
func opError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dir: %s %q: %w", op, name, withClass(err))
}

func checkName(name string) error {
	if err := array.CheckName(name); err != nil {
		return fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	return nil
}

// Delete removes an array, and the groups that have no other member, in one rename.
func (s *Store) Delete(ctx context.Context, name string) error {
	return opError("delete", name, s.remove(ctx, name))
}

func (s *Store) remove(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return err
	}
	if err := s.names.lock(); err != nil {
		return err
	}
	defer s.names.unlock()
	if err := s.mustBeOurs(name); err != nil {
		return err
	}
	top, err := s.topOfRemoval(nodePath(name))
	if err != nil {
		return err
	}
	if err := s.visible.lock(path.Dir(top)); err != nil {
		return err
	}
	defer s.visible.unlock()
	if err := s.names.forgetSettled(); err != nil {
		return err
	}
	aside, err := s.trash.move(top)
	if err != nil {
		return err
	}
	if err := s.fs.SyncDir(path.Dir(top)); err != nil {
		// It may come back after a crash, so it is not gone.
		if e := s.fs.Rename(aside, top, RenameNoReplace); e != nil {
			s.log.Error("store: cannot undo a deletion", "array", name, "error", e)
		}
		s.trash.release(aside)
		return err
	}
	s.trash.drop(aside)
	return nil
}
