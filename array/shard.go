package array

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
)

// A shard file of the stored form is its cells, then the index: for each cell,
// in C order of the LOGICAL grid, offset and length as two little-endian uint64
// (both all ones: the cell is missing), then the CRC32C of those entries as a
// little-endian uint32 (Zarr v3 sharding_indexed 1.0). ndferry numbers cells in
// C order of the stored grid; this file is where the two numberings meet.
const (
	shardEntrySize = 16
	shardMissing   = math.MaxUint64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CellSpan is where a cell lies in a shard file, in bytes. Missing: the cell is
// not there, its elements are the fill value.
type CellSpan struct {
	Offset, Length int64
	Missing        bool
}

// ShardIndexSize returns the bytes of the index of a shard of n cells.
func ShardIndexSize(n int) int { return n*shardEntrySize + crc32.Size }

// AppendShardIndex appends the index of a shard that is the whole grid. span
// returns where cell i (in C order of the stored grid) lies.
func AppendShardIndex(dst []byte, g Grid, span func(i int) CellSpan) []byte {
	begin := len(dst)
	for l := range g.Len() {
		offset, length := uint64(shardMissing), uint64(shardMissing)
		if s := span(g.StoredIndex(l)); !s.Missing {
			offset, length = uint64(s.Offset), uint64(s.Length)
		}
		dst = binary.LittleEndian.AppendUint64(dst, offset)
		dst = binary.LittleEndian.AppendUint64(dst, length)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[begin:], castagnoli))
}

// ErrShardIndex is wrapped by every refusal of a shard's index.
var ErrShardIndex = errors.New("bad shard index")

// ParseShardIndex reads the index of a shard that is the whole grid. The result
// is in C order of the stored grid. body is the number of bytes before the
// index; a span that reaches beyond them is refused. Spans may overlap. Errors
// wrap ErrShardIndex.
func ParseShardIndex(raw []byte, g Grid, body int64) ([]CellSpan, error) {
	if len(raw) != ShardIndexSize(g.Len()) {
		return nil, shardError(fmt.Sprintf("%d bytes for %d cells", len(raw), g.Len()))
	}
	entries := raw[:len(raw)-crc32.Size]
	if got, want := crc32.Checksum(entries, castagnoli), binary.LittleEndian.Uint32(raw[len(entries):]); got != want {
		return nil, shardError(fmt.Sprintf("CRC32C %08x, it says %08x", got, want))
	}
	spans := make([]CellSpan, g.Len())
	for l := range spans {
		e := entries[l*shardEntrySize:]
		offset, length := binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint64(e[8:])
		i := g.StoredIndex(l)
		switch {
		case offset == shardMissing && length == shardMissing:
			spans[i].Missing = true
		case body < 0 || offset > uint64(body) || length > uint64(body)-offset:
			return nil, shardError(fmt.Sprintf("cell %d is at %d+%d of %d bytes", i, offset, length, body))
		default:
			spans[i] = CellSpan{Offset: int64(offset), Length: int64(length)}
		}
	}
	return spans, nil
}

// ShardKey returns the key, which is the file name, of the one shard of an array
// in the stored form: "c", "c.0", "c.0.0".
func ShardKey(ndim int) string {
	key := []byte{'c'}
	for range ndim {
		key = append(key, '.')
		key = strconv.AppendInt(key, 0, 10)
	}
	return string(key)
}

func shardError(why string) error { return fmt.Errorf("array: %w: %s", ErrShardIndex, why) }

// AppendCRC32C appends the CRC32C of p to it, little-endian, as the crc32c codec
// does.
func AppendCRC32C(p []byte) []byte {
	return binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}
