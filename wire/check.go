package wire

import (
	"errors"
	"fmt"

	"ndferry/array"
)

// Check refuses what no server could store: a name outside the grammar, an array that is not described as §5.6 says, attributes
// that are none. It does not tell whether this array's cells are within the limits of a server.
func (m *PutMessage) Check() error {
	_, err := m.Describe()
	return err
}

// Describe checks the message and returns the metadata of its array.
func (m *PutMessage) Describe() (*array.Meta, error) {
	invalid := func(err error) (*array.Meta, error) {
		code := CodeInvalid
		if errors.Is(err, array.ErrLimit) {
			code = CodeLimit
		}
		return nil, &Error{Section: "5.1", Code: code, Err: fmt.Errorf("put %q: %w", cut(m.Name, 200), err)}
	}
	if m.Array.Kind() != '{' {
		return nil, errorf("5.1", 0, CodeProtocol, "put: array is no object")
	}
	if err := array.CheckName(m.Name); err != nil {
		return invalid(err)
	}
	if m.ID == (ID{}) {
		return invalid(fmt.Errorf("the id is zero"))
	}
	d, err := Describe(m.Array, m.NumPy)
	if err != nil {
		return invalid(err)
	}
	z := &d.Array
	if !z.IsWireForm() {
		return invalid(fmt.Errorf("array: the cells must be the chunks of a regular grid"))
	}
	meta := &z.Meta
	if meta.Attributes != nil && string(meta.Attributes) != "{}" {
		return invalid(fmt.Errorf("attributes belong into the member of their own"))
	}
	meta.Attributes = nil
	if m.Attributes != nil {
		if err := array.CheckAttributes([]byte(*m.Attributes)); err != nil {
			return invalid(err)
		}
	}
	if len(m.CodecWhy) > MaxCodecWhy {
		return nil, errorf("8", 0, CodeLimit, "put %q: codec_why has %d bytes, at most %d are allowed", cut(m.Name, 200), len(m.CodecWhy), MaxCodecWhy)
	}
	if m.Digest != "" && m.Digest != "crc32c" && m.Digest != "sha256" {
		return invalid(fmt.Errorf("digest %q is not known; there are crc32c and sha256", cut(m.Digest, 50)))
	}
	size, err := meta.CellBytes()
	if err != nil {
		return invalid(err)
	}
	if size > MaxCell {
		return nil, errorf("8", 0, CodeLimit, "put %q: cells of %d bytes, at most %d are allowed; use smaller chunks", m.Name, size, MaxCell)
	}
	return meta, nil
}

// Check refuses a name outside the grammar.
func (m *NameMessage) Check() error { return checkName(m.Name) }

// Check refuses a name outside the grammar and ranges that are too many or too far.
func (m *GetMessage) Check() error {
	if err := checkName(m.Name); err != nil {
		return err
	}
	return checkRanges("GET", m.Cells)
}

// Check refuses ranges that are too many or too far.
func (m *AcceptMessage) Check() error { return checkRanges("ACCEPT", m.Durable) }

// Check refuses a prefix that no name begins with, and a page of a negative length.
func (m *ListMessage) Check() error {
	if err := array.CheckPrefix(m.Prefix); err != nil {
		return &Error{Section: "5.3", Code: CodeInvalid, Err: err}
	}
	if m.Limit < 0 {
		return errorf("5.3", 0, CodeProtocol, "a list of %d names", m.Limit)
	}
	return nil
}

func checkName(name string) error {
	if err := array.CheckName(name); err != nil {
		return &Error{Section: "5.5", Code: CodeInvalid, Err: err}
	}
	return nil
}

func checkRanges(what string, ranges [][2]uint64) error {
	if len(ranges) > MaxRanges {
		return errorf("8", 0, CodeLimit, "%s: %d ranges of cells, at most %d are allowed", what, len(ranges), MaxRanges)
	}
	for _, r := range ranges {
		if r[0] > MaxCells || r[1] > MaxCells {
			return errorf("8", 0, CodeInvalid, "%s: %d cells from %d; an array has at most %d", what, r[1], r[0], uint64(MaxCells))
		}
	}
	return nil
}

// Check refuses counts that no array has and a digest that lacks its root.
func (m *ReceiptMessage) Check() error {
	return checkStored("RECEIPT", m.Bytes, m.StoredBytes, m.Cells, m.Digest)
}

// Check refuses counts that no array has and a digest that lacks its root.
func (m *MetaMessage) Check() error {
	if err := checkName(m.Name); err != nil {
		return err
	}
	return checkStored("META", m.Bytes, m.StoredBytes, m.Cells, m.Digest)
}

func checkStored(what string, raw, stored int64, cells int, d Digest) error {
	const exact = 1 << 53
	if raw < 0 || stored < 0 || cells < 0 || raw > exact || stored > exact || cells > MaxCells {
		return errorf("5.1", 0, CodeProtocol, "%s: %d bytes, %d stored, %d cells", what, raw, stored, cells)
	}
	if d.Kind == "sha256" && d.Root == nil {
		return errorf("5.1", 0, CodeProtocol, "%s: digest sha256 without its root", what)
	}
	return nil
}
