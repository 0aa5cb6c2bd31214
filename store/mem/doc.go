// Package mem is the store in memory: arrays live as long as the process.
//
// An uncompressed array of some size is one mapping of a memfd, its cells one after the other, so that a payload can be received
// straight to where it stays (store.Lender) and sent straight from there (store.Viewer). Fresh pages cost more than the network, so
// mappings that nobody uses any more are kept for later arrays, in a pool of limited size (BenchmarkPut: 8 GB/s against 1). Taking
// fresh pages with MADV_POPULATE_WRITE is no faster than touching them: clearing them is what takes the time.
//
// # Old bytes
//
// A mapping from the pool holds what a former array has left. None of it can be read: only committed arrays can be, a
// commit needs every cell, a cell is written whole, and a mapping is cut to whole cells, the rest of its last page cleared.
//
// On systems without memfd, mappings are anonymous.
package mem
