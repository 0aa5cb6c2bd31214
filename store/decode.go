package store

import (
	"crypto/sha256"
	"fmt"

	"ndferry/array"
	"ndferry/wire/codec"
)

// Header is what Spec.Validated says when nothing but the header of compressed chunks was looked at.
const Header = "header"

// A CellCheck looks at stored cells as Verify does: it decodes them and holds padding and leaf against what should be. It keeps
// memory of at most one cell; one goroutine at a time may use it.
type CellCheck struct {
	grid       array.Grid
	compressed bool
	digest     DigestKind
	raw        []byte
	decoder    codec.Decoder
}

// NewCellCheck returns the check of the cells of an array.
func NewCellCheck(spec *Spec) (*CellCheck, error) {
	grid, err := spec.Meta.Grid()
	if err != nil {
		return nil, err
	}
	c := &CellCheck{grid: grid, compressed: len(spec.Meta.Codecs) > 0, digest: spec.Digest}
	if c.compressed {
		size, err := spec.Meta.CellBytes()
		if err != nil {
			return nil, err
		}
		c.raw = make([]byte, size)
	}
	return c, nil
}

// Problems returns what is wrong with the bytes that are stored of a cell, besides their CRC.
func (c *CellCheck) Problems(cell Cell, data []byte) []string {
	if c.compressed {
		if err := c.decoder.Decode(c.raw, data); err != nil {
			return []string{fmt.Sprintf("it cannot be decoded: %v", err)}
		}
		data = c.raw
	}
	var wrong []string
	if !c.grid.PaddingIsZero(data, cell.Index) {
		wrong = append(wrong, "padding is not zero")
	}
	if c.digest == DigestSHA256 && sha256.Sum256(data) != cell.Leaf {
		wrong = append(wrong, "SHA-256 is not the recorded leaf")
	}
	return wrong
}

// MaxStored bounds the stored bytes of a cell of size raw ones (spec/WIRE.md §5.6).
func MaxStored(m *array.Meta, size int) int {
	if len(m.Codecs) == 0 {
		return size
	}
	return codec.MaxEncodedLen(size)
}
