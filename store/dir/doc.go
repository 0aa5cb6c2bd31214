// Package dir is the store in a directory: plain Zarr v3 that any reader opens, and durable commits. spec/STORE.md is its contract;
// section numbers in this package are that file's.
//
// # What lies where
//
// Everything is a node: a directory with zarr.json, one shard file and the sidecar .ndferry. An upload is a node in the making at
// state/uploads/<id>; Commit finishes it and renames it to zarr/<name>; what it replaces goes to state/trash and is removed in the
// background. The sidecar of an upload is its journal. state/receipts remembers commits for 7 days.
//
// # What survives
//
// Nothing is acknowledged that a crash could take back, and nothing is visible that is not whole: the order of writes, syncs
// and renames in commit.go is the one of STORE.md §1, and testdata/commit.golden pins it. After an error of write or sync the
// upload is thrown away. Recovery (recover.go) decides from state/receipts and state/uploads alone what a crash left undecided.
//
// # Locks
//
// In this order:
//
//	Store.names    one change of names at a time: commit from INTENT to DONE, delete, recovery, appends to receipts
//	Store.visible  written while a name changes until that is durable, read while a name is resolved,
//	               so that nobody sees what a crash could take back
//	Store.claims   what happens to the directories in state/uploads
//	Store.mu       the table of open uploads
//	receiptLog.mu  the log of receipts
//	upload.mu      the table of one upload's cells
//
// The first three exclude the other processes that have the store open, too (locks.go; STORE.md §4). owner.go says to which process an
// upload belongs. A lock that is kept is kept by files, so a process that dies leaves none; the next holder repairs what it was at.
//
// # Seams
//
// The file system (FS) and the clock are parts of Config.
package dir
