// Package store says where arrays rest: the interface that every back end implements, the nouns it speaks and the
// errors it returns. Back ends live in their own directories (store/dir, store/mem), store/open picks one by URL,
// store/storetest is the suite that each of them must pass.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ndferry/array"
)

// Errors to test for with errors.Is. Back ends wrap them with the operation and the name.
var (
	ErrNotFound  = errors.New("no such array")
	ErrConflict  = errors.New("conflict")  // the name is taken, or an array would have children
	ErrBusy      = errors.New("busy")      // the transfer id is in use by another connection; see OwnedError
	ErrIntegrity = errors.New("integrity") // stored bytes are not what was recorded
	ErrNoSpace   = errors.New("no space")
	ErrInvalid   = errors.New("invalid")
	ErrLocked    = errors.New("another server has this store open")
)

// OwnedError is an ErrBusy of a transfer that belongs to another process that has the store open: whoever asked goes there.
type OwnedError struct {
	ID    ID
	Owner string // what the other process was opened with as its name; "" when it cannot be told at the moment
	Epoch uint64 // grows by one each time the transfer changes hands
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("%v: transfer %x is open in process %q of this server", ErrBusy, e.ID[:], e.Owner)
}

func (e *OwnedError) Unwrap() error { return ErrBusy }

// ID is a transfer: 128 random bits that its client chose.
type ID [16]byte

// DigestKind says which digest an array carries besides the CRC32C of each cell.
type DigestKind string

const (
	DigestNone   DigestKind = "none" // nothing was recorded: another program wrote the array
	DigestCRC32C DigestKind = "crc32c"
	DigestSHA256 DigestKind = "sha256"
)

// Spec describes an array before its first cell: what a PUT says (spec/WIRE.md §5.1).
type Spec struct {
	ID         ID
	Name       string
	Meta       array.Meta // wire form: cells are the chunks
	NumPy      string     // JSON of the exact NumPy dtype (spec/WIRE.md §5.1), or ""
	Attributes []byte     // the text of a JSON object; nil is {}
	Digest     DigestKind
	CodecWhy   string // why the sender settled on the codec, one sentence; "" when it was told to
	Validated  string // Header when cells were not decoded on their way in; "" when they were
	IfAbsent   bool
	Sparse     bool // cells may repeat others or be the fill value; see Upload.Repeat
	Relaxed    bool // acknowledge without waiting for the disk; spec/STORE.md §1
	Resume     bool // take up what is durable of an unfinished transfer of this id; otherwise begin again
}

// Receipt says what was committed (spec/WIRE.md §5.1).
type Receipt struct {
	ID          ID
	Name        string
	Bytes       int64 // raw bytes of the array, padding left out
	StoredBytes int64
	Cells       int
	Codec       string // none, or the compressor of the chunks
	CodecWhy    string // as in Spec
	Validated   string // as in Spec
	Digest      DigestKind
	Root        [32]byte // of DigestSHA256
	Durability  string   // "durable", "relaxed" or "memory"
	Created     time.Time
}

// Info is a committed array without its cells.
type Info struct {
	Spec
	Receipt Receipt
}

// DType returns the type of the elements as NumPy has them; Meta.DType is the one in which they rest.
func (i *Info) DType() array.DType {
	if d, err := array.ParseNumPy([]byte(i.NumPy)); err == nil {
		return d
	}
	return i.Meta.DType
}

// Cell describes one stored cell.
type Cell struct {
	Index int
	CRC   uint32   // CRC32C of the stored (encoded) bytes
	Leaf  [32]byte // SHA-256 of the raw bytes, with DigestSHA256
	// Source is the cell whose bytes these are, Index when they are its own. Upload.Write ignores it.
	Source int
}

// Fill is the source of cells that are the fill value and have no bytes.
const Fill = -1

// Repeat says that Count cells from First on are those from Source on, one for one; or, with Source Fill, that they are the fill
// value. Source is less than First, and every source is written before, or is itself of the run.
type Repeat struct {
	First, Count, Source int
}

// Range is a run of cells.
type Range struct{ First, Count int }

// Store is a place for arrays. All methods may be called from any goroutine.
type Store interface {
	// Begin opens the upload spec.ID. When that id is committed already it returns its receipt and no upload.
	// ErrBusy when the id is open already, as an OwnedError when in another process; ErrConflict when IfAbsent is set and the name is taken; ErrNoSpace when
	// the array cannot fit.
	Begin(ctx context.Context, spec Spec) (Upload, *Receipt, error)
	// Open returns a committed array for reading; it stays readable, unchanged, until it is closed, whatever happens to the name.
	Open(ctx context.Context, name string) (Array, error)
	// List returns, in byte order, at most limit arrays whose names begin with prefix and are larger than after, and whether there are more.
	List(ctx context.Context, prefix, after string, limit int) ([]Info, bool, error)
	// Delete removes an array. Readers that have it open keep it.
	Delete(ctx context.Context, name string) error
	// Instant tells that no method waits for a disk or a network, so that a caller may run them where waiting hurts.
	Instant() bool
	// Close releases the store. Uploads and arrays must have been closed.
	Close() error
}

// Upload is a transfer in the making. Write may be called from several goroutines for different cells; the other
// methods by one goroutine and not beside Write.
type Upload interface {
	// Durable lists the cells that survive a crash.
	Durable() []Range
	// Recorded returns what is recorded of a cell that was written, here or before the upload was taken up again.
	Recorded(index int) (Cell, bool)
	// Write stores the encoded bytes of a cell. It does not keep data. The bytes were checked by the caller.
	Write(ctx context.Context, cell Cell, data []byte) error
	// Repeat records cells that are not written; the upload must be Sparse. leaves are those of fill cells, with DigestSHA256.
	Repeat(ctx context.Context, r Repeat, leaves [][32]byte) error
	// Sync makes all written cells durable.
	Sync(ctx context.Context) error
	// Commit publishes the array; every cell must have been written. root is checked by the caller and recorded.
	// After an error the upload is gone, unless the error is ErrConflict.
	Commit(ctx context.Context, root [32]byte) (Receipt, error)
	// Close gives the upload up and keeps what is durable for a later Begin with Resume.
	// It is a no-op after Commit and Discard.
	Close() error
	// Discard forgets the upload and frees its space.
	Discard() error
}

// Lender is an Upload that has memory for its cells. The caller fills the memory of a cell and then calls Write with it, which copies nothing.
type Lender interface {
	// Lend returns the cell's memory, of exactly size bytes, or nil when the back end has none for it. The upload owns it;
	// it is valid until Commit, Close or Discard.
	Lend(cell, size int) []byte
}

// Array is a committed array, open for reading. Its methods may be called from any goroutine.
type Array interface {
	Info() *Info
	// Cell returns what is recorded of a cell and the length of its stored bytes, 0 for a cell of the fill value.
	Cell(index int) (Cell, int, error)
	// Read reads the stored bytes of a cell into dst, which must have their length. It does not check them.
	Read(ctx context.Context, index int, dst []byte) error
	// Verify reads everything that is stored and checks it. progress, which may be nil, is called from time to time with the cells
	// and bytes done; problem for each thing that is wrong. The error tells only that checking itself failed.
	Verify(ctx context.Context, progress func(cells int, bytes int64), problem func(Problem)) error
	// Close releases the array.
	Close() error
}

// Viewer is an Array whose stored bytes lie in memory.
type Viewer interface {
	// View returns the stored bytes of a cell. They must not be written and are valid until the array is closed.
	View(index int) []byte
}

// Problem is one thing that Verify found wrong.
type Problem struct {
	File string // relative to the store, "" when the store has no files
	Cell int    // -1 when it concerns no single cell
	Text string
}
