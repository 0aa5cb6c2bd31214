// Package array holds the nouns of ndferry and does no I/O: what an array is
// (DType, Shape, Order), how it is cut into cells (Grid, Region), what it is
// called (CheckName), and the two headers that describe it to others: the .npy
// header and Zarr v3 metadata.
//
// # Logical axes and memory order
//
// Shapes, cells and regions are given in logical axes: axis 0 is the one that
// arr[i] indexes. An [Order] says how the axes lie in memory, outermost first.
// C order of three axes is [0 1 2], Fortran order [2 1 0]; these are also the
// meaning and the numbers of the order member of Zarr's transpose codec.
// "Stored" always means: seen with the axes permuted by the order.
//
//	logical shape (4,6), order [1 0]      stored shape (6,4), C order
//
// # Cells
//
// A [Grid] cuts an array into equal cells, which are the unit of everything in
// ndferry: checked, sent, acknowledged, stored and read on its own. A cell is
// always full size. Where the array ends inside it, the rest is padding, and
// padding is zero bytes. The bytes of a cell are its elements in the array's
// memory order. Cells are numbered in C order of the stored grid, so that the
// cells of a default grid, one after the other, are the padded array itself.
//
// # Trust
//
// Everything that parses (type strings, shapes, headers, metadata, names)
// expects hostile input: lengths and products are checked before they are used,
// every list has a limit (limits.go), nothing is evaluated, nothing is pickled.
//
// All functions are safe for concurrent use; values are immutable unless a
// method says otherwise. Slices that a method returns belong to the caller.
package array
