package dir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"ndferry/store"
)

// Sidecars and the log of receipts are a preamble and records (spec/STORE.md §3), little-endian:
//
//	preamble                          record
//	 0  8  magic                       0  4  length of the body
//	 8  4  version = 1                 4  4  type
//	12  4  CRC32C of bytes 0 to 11     8  4  CRC32C of bytes 0 to 7 and the body
//	                                  12  …  body
const (
	preambleSize   = 16
	recordHeadSize = 12
	recordVersion  = 1
)

// A recordType is never reused and never changes its meaning; the list only grows.
type recordType uint32

const (
	recordHeader  recordType = 1
	recordCells   recordType = 2
	recordCommit  recordType = 3
	recordOwner   recordType = 4
	recordIntent  recordType = 16
	recordDone    recordType = 17
	recordDropped recordType = 18
)

const (
	sidecarMagic  = "NDFSIDE\n"
	receiptsMagic = "NDFRCPT\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// damage is a record file that does not read as it was written. It wraps store.ErrIntegrity.
type damage struct {
	file string
	off  int64
	text string
}

func (d *damage) Error() string {
	return fmt.Sprintf("%s: %s at offset %d", d.file, d.text, d.off)
}

func (d *damage) Unwrap() error { return store.ErrIntegrity }

// appendPreamble appends the first 16 bytes of a record file.
func appendPreamble(dst []byte, magic string) []byte {
	n := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, recordVersion)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[n:], castagnoli))
}

// appendRecord appends a record with the body.
func appendRecord(dst []byte, kind recordType, body []byte) []byte {
	n := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(kind))
	crc := crc32.Checksum(dst[n:], castagnoli)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Update(crc, castagnoli, body))
	return append(dst, body...)
}

// records reads a record file front to back. It never holds more than one record.
type records struct {
	src  io.ReaderAt
	file string // for errors
	size int64
	off  int64 // of the next record
	buf  []byte
}

// openRecords checks the preamble of a file of size bytes.
func openRecords(src io.ReaderAt, file, magic string, size int64) (*records, error) {
	r := &records{src: src, file: file, size: size, off: preambleSize}
	var p [preambleSize]byte
	if size < preambleSize {
		return nil, r.damaged(0, "cut off in the preamble")
	}
	if _, err := src.ReadAt(p[:], 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	version := binary.LittleEndian.Uint32(p[8:])
	switch {
	case string(p[:8]) != magic:
		return nil, r.damaged(0, "wrong magic")
	case binary.LittleEndian.Uint32(p[12:]) != crc32.Checksum(p[:12], castagnoli):
		return nil, r.damaged(0, "wrong CRC of the preamble")
	case version != recordVersion:
		return nil, fmt.Errorf("%w: %s has format version %d and this program reads version %d: use a newer ndferry",
			store.ErrInvalid, file, version, recordVersion)
	}
	return r, nil
}

// errTorn is damage with no good record behind it: what a crash leaves at the end of a file that was being appended to.
var errTorn = errors.New("torn record")

// next returns the next record and its offset. The body is valid until the next call. io.EOF is the end; errors of
// the file's content wrap store.ErrIntegrity, and errTorn too when no good record follows.
func (r *records) next() (kind recordType, body []byte, at int64, err error) {
	at = r.off
	kind, body, end, err := r.record(at)
	if err == nil {
		r.off = end
		return kind, body, at, nil
	}
	if end > 0 {
		if _, _, _, behind := r.record(end); behind == nil {
			return 0, nil, at, err
		}
	}
	if errors.Is(err, store.ErrIntegrity) {
		err = fmt.Errorf("%w: %w", errTorn, err)
	}
	return 0, nil, at, err
}

// record reads the record at an offset and returns where it ends, also when only its CRC is wrong; else that is 0.
func (r *records) record(at int64) (kind recordType, body []byte, end int64, err error) {
	left := r.size - at
	if left == 0 {
		return 0, nil, 0, io.EOF
	}
	if left < recordHeadSize {
		return 0, nil, 0, r.damaged(at, "record cut off")
	}
	var head [recordHeadSize]byte
	if _, err := r.src.ReadAt(head[:], at); err != nil {
		return 0, nil, 0, fmt.Errorf("read %s: %w", r.file, err)
	}
	length := int64(binary.LittleEndian.Uint32(head[0:]))
	if length > maxRecord {
		return 0, nil, 0, r.damaged(at, fmt.Sprintf("record of %d bytes, the most is %d,", length, maxRecord))
	}
	if length > left-recordHeadSize {
		return 0, nil, 0, r.damaged(at, "record cut off")
	}
	if int64(cap(r.buf)) < length {
		r.buf = make([]byte, length)
	}
	body = r.buf[:length]
	if length > 0 {
		if _, err := r.src.ReadAt(body, at+recordHeadSize); err != nil {
			return 0, nil, 0, fmt.Errorf("read %s: %w", r.file, err)
		}
	}
	end = at + recordHeadSize + length
	crc := crc32.Update(crc32.Checksum(head[:8], castagnoli), castagnoli, body)
	if crc != binary.LittleEndian.Uint32(head[8:]) {
		return 0, nil, end, r.damaged(at, "wrong CRC of a record")
	}
	return recordType(binary.LittleEndian.Uint32(head[4:])), body, end, nil
}

// skip goes past the record at the current offset without trusting its content. It reports false when nothing can follow.
func (r *records) skip() bool {
	var head [4]byte
	if _, err := r.src.ReadAt(head[:], r.off); err != nil {
		return false
	}
	next := r.off + recordHeadSize + int64(binary.LittleEndian.Uint32(head[:]))
	if next > r.size-recordHeadSize {
		return false
	}
	r.off = next
	return true
}

// skipKind goes past the next record without reading it, when it is of that kind.
func (r *records) skipKind(kind recordType) bool {
	var head [8]byte
	if _, err := r.src.ReadAt(head[:], r.off); err != nil || recordType(binary.LittleEndian.Uint32(head[4:])) != kind {
		return false
	}
	return r.skip()
}

func (r *records) damaged(off int64, text string) error {
	return &damage{file: r.file, off: off, text: text}
}
