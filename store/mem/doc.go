// Package mem is the store in memory: arrays live as long as the process.
//
// An uncompressed array of some size is one mapping of a memfd, its cells one after the other, so that a payload can be received
// straight to where it stays (store.Lender) and sent straight from there (store.Viewer).
//
// # Fresh pages
//
// Fresh pages cost more than the network, so mappings that nobody uses any more are kept for later arrays: at most half of the limit,
// within it, each for a minute, none when the machine has less than 1/32 of its memory (or 1 GiB) left. Where there is none, the
// pages of a cell are made large ones before it is received, which the kernel clears many times as fast as small ones. No second thread does so ahead:
// where the host of a virtual machine must find the memory first, two threads are no faster than one.
//
// # Old bytes
//
// A mapping from the pool holds what a former array has left. None of it can be read: only committed arrays can be, a
// commit needs every cell, a cell is written whole, and a mapping is cut to whole cells, the rest of its last page cleared.
//
// On systems without memfd, mappings are anonymous.
package mem
