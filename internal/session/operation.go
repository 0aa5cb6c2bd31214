package session

import (
	"errors"
	"fmt"
	"net"

	"ndferry/store"
	"ndferry/wire"
)

// Job is the kind of an Operation.
type Job uint8

const (
	Begin    Job = iota + 1 // open the upload of a PUT
	Write                   // check and write a cell
	Commit                  // publish the upload
	Release                 // give the upload up; keep what is durable when the PUT asked to
	Discard                 // forget the upload
	Open                    // open an array for a GET
	ReadCell                // read a stored cell
	Shut                    // close the array of a GET
	Stat
	List
	Delete
	Repeat // record cells that repeat others or are the fill value
	Verify // Results with More set are its progress
	Join   // take part in an upload that another connection has open
	Leave  // end that
	Gather // list what was written of an upload, on all connections
)

// ErrUnserved is the Result of an operation that was not run, because the connection is gone and Executor.Wanted was false, or the server is.
var ErrUnserved = fmt.Errorf("session: the connection is gone: %w", net.ErrClosed)

// errHeld is the Result of a Commit that was not made because of a Write before it.
var errHeld = errors.New("session: a cell of the upload was not written")

// Operation is work on the store, done off the session. Operations of a stream run in the order in which they were submitted.
type Operation struct {
	ID     uint64
	Job    Job
	Stream uint32
	Spec   *store.Spec // Begin, Join: not to be changed
	Cell   store.Cell  // Write, ReadCell: the index; Write: the CRC32C of Data, already compared with the frame's
	Data   []byte      // Write: the encoded cell
	Raw    uint32      // Write: raw bytes of the cell
	Lent   bool        // Write: Data is the upload's own memory
	Free   bool        // Write: the cell's credit was granted again, because its memory is the upload's
	Root   [32]byte    // Commit
	Behind bool        // Commit: not if a Write or Repeat before it was not made; then the upload stays as it is
	Repeat store.Repeat
	First  bool              // Open: cell 0 will be read at once
	Takes  []string          // ReadCell, Open with First: features for cells that are not sent
	Name   string            // Open, Stat, Delete, Verify
	Query  *wire.ListMessage // List
}

// Result is how an Operation ended.
type Result struct {
	Err     error
	Receipt *store.Receipt // Begin of what is committed already, Commit
	Durable []store.Range  // Begin; Join, Gather: what was written
	Leaves  [][32]byte     // with sha256; Begin, Join, Gather: those of the durable cells, in order; Repeat: those of cells of the fill value
	Synced  int            // Write: how many cells are durable, when it made a checkpoint; else 0
	Cell    store.Cell     // Write: with its leaf; ReadCell
	Data    []byte         // ReadCell: the stored bytes, nil when Cell.Source says what the cell is
	Lent    bool           // ReadCell: Data is the array's own memory
	Info    *store.Info    // Open, Stat
	List    []store.Info
	Report  wire.ReportMessage // Verify
	More    bool               // List: there are more names. Verify: not the last report
}
