// Package codec turns one chunk of array memory into bytes for the wire or
// the disk and back: not at all, or in a Blosc 1 container around lz4, zlib
// or zstd, after a byte or bit shuffle.
//
// The container is that of C-Blosc 1.x, which Zarr v3's blosc codec, numcodecs
// and TensorStore also read and write
// (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst). What
// this package writes follows C-Blosc's choices of block size and splitting,
// so that lz4 chunks are the same bytes that C-Blosc would have written.
//
//	offset  size  field
//	     0     1  version, 2
//	     1     1  version of the stream format, 1 for all
//	     2     1  flags: 0x01 byte shuffle, 0x02 plain copy, 0x04 bit shuffle,
//	              0x08 must be zero, 0x10 blocks are not split,
//	              bits 5 to 7 stream format: 0 blosclz, 1 lz4, 2 snappy, 3 zlib, 4 zstd
//	     3     1  typesize, bytes of one element, 1 to 255
//	     4     4  nbytes, size of the decoded chunk
//	     8     4  blocksize, decoded bytes of each block but a shorter last one
//	    12     4  cbytes, size of the container with this header
//	    16   4×n  start of each block, counted from the start of the container
//
// All integers are little-endian. A plain copy has the raw bytes at offset 16
// and no table. Otherwise each block is shuffled as a whole and then stored as
// one stream or, where 0x10 is clear, the typesize is at most 16, a stream
// gets at least 128 bytes and the block is not a shorter last one, as one
// stream for each byte of the element. A stream is its size, 4 bytes, and its
// compressed bytes; a size that equals the decoded size means stored raw.
//
// Only whole elements are shuffled and the bytes left over are copied behind
// them; a bit shuffle leaves a block alone unless it holds a multiple of eight
// elements. Elements of more than 255 bytes are treated as single bytes.
//
// Nothing in a container is believed before it is checked: decoding writes
// into exactly the memory the caller gave, and uses the memory of no more than
// one block, for a bit shuffle two, beside it; a block is no longer than that
// memory.
package codec
