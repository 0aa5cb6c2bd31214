// Package handover is what a master and its workers say to each other: frames over an inherited SOCK_SEQPACKET pair, with
// descriptors, and a table of words in shared memory that says who owns a connection. spec/HANDOVER.md is the contract.
//
// A connection is offered with its descriptor. Who may read or write it is decided by its word alone, by compare-and-swap:
//
//	          the worker                     the worker, before its first read or write
//	OFFERED ──────────────► TAKEN ──────────────────────────────────────────────► TOUCHED
//	   │ │                    │
//	   │ │ the worker         │ the worker
//	   │ └──────► REFUSED ◄───┘
//	   │ the master
//	   └────────► REVOKED
//
// Messages may come late, twice (as cumulative numbers) or never: the word is what counts. The master keeps its copy of the
// descriptor, which is custody and not ownership, until the worker has answered.
//
// Nothing that comes over a channel is trusted: sizes are checked before they are used, descriptors are counted, and what does not
// fit is closed.
package handover
