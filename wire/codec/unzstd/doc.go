// Package unzstd decodes zstd frames (RFC 8878) whose decoded size is known
// beforehand, as it is for the streams of a Blosc container.
//
// Decoded bytes go straight to where they belong: matches are copied within
// the destination, so that there is no window, no history and no second copy.
// Everything else of the format is read: skippable frames, several frames one
// after the other, checksums, unknown content size. A frame that needs a
// dictionary is refused.
//
// The source is not trusted. What is written lies in dst, or in the room behind
// it that the caller lends; every distance is checked against what the frame
// has written, every length against what is left, and memory does not depend on
// what a frame says.
//
// Two loops have a fast form: four Huffman streams in step, and the decoding and
// carrying out of sequences, both in Go and in assembly for amd64 with BMI2. The
// fast form does only what is ordinary. The ends of streams and of the
// destination, codes of more than 56 bits and all errors are left to a slow
// form, which is Go and the same for both.
package unzstd
