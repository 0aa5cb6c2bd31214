package dir

import "time"

// FS is what the store asks of a file system. Paths are relative to the store's directory, joined by "/"; they never
// leave it. Errors wrap fs.ErrNotExist, fs.ErrExist or the errno (ENOSPC, EDQUOT, EIO, …). All methods may be called
// from any goroutine. The real one is OS; tests put others in its place that fail, record or forget.
//
// What survives a crash, and nothing else does: the bytes and size of a file, after File.Sync; the entries of a
// directory, after SyncDir of it. A rename is in both of its directories or in neither.
type FS interface {
	// Create makes a file that must not exist, open for reading and writing, with mode 0666 less the umask.
	Create(path string) (File, error)
	// OpenFile opens an existing regular file for reading, or for reading and writing.
	OpenFile(path string, write bool) (File, error)
	// Mkdir makes a directory in one that exists, with mode 0777 less the umask.
	Mkdir(path string) error
	// Rename moves a file or a directory to a path of which the parent exists.
	Rename(from, to string, mode RenameMode) error
	// Remove removes a file or an empty directory.
	Remove(path string) error
	// ReadDir lists a directory in byte order of the names.
	ReadDir(path string) ([]Entry, error)
	// Stat describes what lies at the path; it does not follow a symbolic link at its end.
	Stat(path string) (Stat, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(path string) error
	// Close releases what the file system itself holds.
	Close() error
}

// File is an open file. ReadAt and WriteAt may be called from several goroutines.
type File interface {
	// ReadAt fills p, or returns an error (io.EOF when the file ends before).
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes all of p, or returns an error.
	WriteAt(p []byte, off int64) (int, error)
	// Allocate makes the file size bytes long and takes the space for them, so that no later write finds the disk
	// full. New bytes are zero.
	Allocate(size int64) error
	// Truncate sets the size.
	Truncate(size int64) error
	// WriteBack begins to write a range to the disk and does not wait. It promises nothing.
	WriteBack(off, length int64)
	// Sync makes bytes and size durable (fdatasync). After an error they are lost: Linux marks the pages clean, and
	// a second Sync that succeeds means nothing.
	Sync() error
	// Size returns the size.
	Size() (int64, error)
	// Lock takes a lock on the whole file that ends with Unlock, with Close or with the process. It is one between open files:
	// a file that is opened twice conflicts with itself, also in one process.
	Lock(mode LockMode) error
	// Unlock gives the lock up.
	Unlock() error
	// Close releases the file.
	Close() error
}

// LockMode says what a lock admits beside it, and whether to wait for it.
type LockMode int

const (
	LockExclusive LockMode = iota // nothing; waits
	LockShared                    // other shared ones; waits
	LockTry                       // nothing; does not wait: ErrLocked when another has one
)

// RenameMode says what may be at the destination of a rename.
type RenameMode int

const (
	RenameReplace   RenameMode = iota // a file may be there; it is gone
	RenameNoReplace                   // nothing may be there: fs.ErrExist
	RenameExchange                    // something must be there: both change places
)

func (m RenameMode) String() string {
	switch m {
	case RenameNoReplace:
		return "noreplace"
	case RenameExchange:
		return "exchange"
	}
	return "replace"
}

// Entry is a member of a directory.
type Entry struct {
	Name string
	Dir  bool
}

// Stat describes a file or a directory.
type Stat struct {
	Dir      bool
	Regular  bool
	Size     int64
	Modified time.Time
	Device   uint64 // equal for what a rename can move between
}
