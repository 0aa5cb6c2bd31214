package array

import "errors"

// Limits of what this package accepts. A peer may agree on lower ones; nothing
// accepts more.
const (
	// MaxDims is the greatest number of axes (NumPy 2's own limit).
	MaxDims = 64

	// MaxBytes bounds the size of an array and of its padded grid, in bytes
	// and in elements. Sums of two such numbers do not overflow an int.
	MaxBytes = 1 << 62

	// MaxItemSize bounds the size of one element in bytes: it may be as large as a cell.
	MaxItemSize = 16 << 20

	// MaxRawSize bounds what of an element rests as raw_bytes, because Zarr
	// writes the fill_value of those out in base64.
	MaxRawSize = 1 << 20

	// MaxFields bounds the fields of a structured type, MaxTypeDepth their
	// nesting.
	MaxFields    = 1024
	MaxTypeDepth = 8

	// MaxCells bounds the number of cells of a grid.
	MaxCells = 1 << 26

	// DefaultCellTarget is the size in bytes that DefaultCell aims at.
	DefaultCellTarget = 4 << 20

	// MaxCellTarget is the greatest target that DefaultCell takes.
	MaxCellTarget = 16 << 20

	// MaxNPYHeader bounds the text of a .npy header in bytes, padding included.
	MaxNPYHeader = 64 << 10

	// MaxLiteralDepth bounds the nesting of a .npy header.
	MaxLiteralDepth = 16

	// MaxMetaBytes bounds a Zarr metadata document: attributes and the rest.
	MaxMetaBytes = MaxAttributesBytes + 1<<20

	// MaxAttributesBytes bounds the text of the user's attributes.
	MaxAttributesBytes = 1 << 20

	// MaxAttributesDepth bounds the nesting of the user's attributes; the
	// outer object is level 1.
	MaxAttributesDepth = 16

	// MaxMembers bounds the members of each JSON object of a Zarr metadata
	// document, the user's attributes excepted.
	MaxMembers = 64

	// MaxDimNameBytes bounds one dimension name.
	MaxDimNameBytes = 1024

	// MaxCodecs bounds a list of codecs.
	MaxCodecs = 16

	// MaxNameBytes, MaxNameParts and MaxPartBytes bound an array's name.
	MaxNameBytes = 1024
	MaxNameParts = 64
	MaxPartBytes = 255
)

// An int holds any array size: 64-bit systems only. On others this constant
// does not compile.
const _ = uint(^uint(0)>>63) - 1

// ErrLimit is wrapped, beside the error of its kind, by every refusal of something that is only too large or too much.
var ErrLimit = errors.New("over the limit")
