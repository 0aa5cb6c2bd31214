package store

import (
	"bytes"
	"errors"
	"fmt"

	"ndferry/array"
)

// MaxCellBytes bounds the raw bytes of a cell, MaxCodecWhy the sentence of Spec.CodecWhy (spec/WIRE.md §8).
const (
	MaxCellBytes = 16 << 20
	MaxCodecWhy  = 500
)

// Durable, Relaxed and Memory are what Receipt.Durability says.
const (
	Durable = "durable"
	Relaxed = "relaxed"
	Memory  = "memory"
)

// CheckSpec reports whether spec describes an array that can be stored, and fills in what may be left out: Attributes, Digest,
// dimension names. Meta.Attributes is cleared, because Attributes is the one place of them. Errors wrap ErrInvalid. Back ends call
// it at the beginning of Begin.
func CheckSpec(spec *Spec) error {
	if err := checkSpec(spec); err != nil {
		return fmt.Errorf("store: %w: %w", ErrInvalid, err)
	}
	return nil
}

func checkSpec(spec *Spec) error {
	if spec.ID == (ID{}) {
		return errors.New("the transfer id is zero")
	}
	if err := array.CheckName(spec.Name); err != nil {
		return err
	}
	spec.Meta.Attributes = nil
	if len(spec.Attributes) == 0 {
		spec.Attributes = []byte("{}")
	}
	if err := array.CheckAttributes(spec.Attributes); err != nil {
		return err
	}
	if spec.Meta.DimNames == nil {
		spec.Meta.DimNames = array.DefaultDimNames(spec.Name, len(spec.Meta.Shape))
	}
	if err := spec.Meta.Check(); err != nil {
		return err
	}
	if n, err := spec.Meta.CellBytes(); err != nil || n < 1 || n > MaxCellBytes {
		return fmt.Errorf("a cell of %d bytes, it has 1 to %d", n, MaxCellBytes)
	}
	switch spec.Digest {
	case "":
		spec.Digest = DigestCRC32C
	case DigestCRC32C, DigestSHA256:
	default:
		return fmt.Errorf("unknown digest %q; there are crc32c and sha256", spec.Digest)
	}
	if len(spec.CodecWhy) > MaxCodecWhy {
		return fmt.Errorf("a sentence about the codec of %d bytes, the most is %d", len(spec.CodecWhy), MaxCodecWhy)
	}
	return checkNumPy(spec)
}

// checkNumPy compares the NumPy dtype with the type in which its elements are stored.
func checkNumPy(spec *Spec) error {
	if spec.NumPy == "" {
		_, err := array.Exact(nil, spec.Meta.DType)
		return err
	}
	if len(spec.NumPy) > array.MaxNPYHeader {
		return fmt.Errorf("a NumPy dtype of %d bytes, the most is %d", len(spec.NumPy), array.MaxNPYHeader)
	}
	_, err := array.Exact([]byte(spec.NumPy), spec.Meta.DType)
	return err
}

// SameArray reports whether two specs ask for the same array under the same name: what a transfer that is taken up again must be.
func SameArray(a, b *Spec) bool {
	return a.Name == b.Name && a.NumPy == b.NumPy && a.Digest == b.Digest && a.Sparse == b.Sparse &&
		bytes.Equal(a.Attributes, b.Attributes) && a.Meta.Equal(&b.Meta)
}

// CodecName is what Receipt.Codec says.
func CodecName(m *array.Meta) string { return m.Compressor() }

// Sizes returns the cells of the array that m describes, and its raw bytes without padding.
func Sizes(m *array.Meta) (cells int, bytes int64, err error) {
	grid, err := m.Grid()
	if err != nil {
		return 0, 0, err
	}
	n, err := m.Shape.Bytes(m.DType.ItemSize())
	return grid.Len(), int64(n), err
}
