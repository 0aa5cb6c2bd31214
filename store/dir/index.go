package dir

import (
	"encoding/binary"
	"hash/crc32"

	"ndferry/array"
)

// indexEntry is the size of an entry of Zarr's shard index, indexBlock how many are in memory at a time: the index of an array of many
// small cells is large.
const (
	indexEntry = 16
	indexBlock = 4096
)

func (l layout) indexSize() int64 { return int64(array.ShardIndexSize(l.grid.Len())) }

// eachIndexBlock makes the shard's index, in blocks: offset and length of each cell in C order of the logical grid, then the
// CRC32C of them all, which is also returned. block is valid during the call.
func (l layout) eachIndexBlock(span func(cell int) array.CellSpan, do func(block []byte) error) (crc uint32, err error) {
	block := make([]byte, 0, min(indexBlock, l.grid.Len())*indexEntry+crc32.Size)
	for n := range l.grid.Len() {
		s := span(l.grid.StoredIndex(n))
		block = binary.LittleEndian.AppendUint64(block, uint64(s.Offset))
		block = binary.LittleEndian.AppendUint64(block, uint64(s.Length))
		if len(block) == indexBlock*indexEntry {
			crc = crc32.Update(crc, castagnoli, block)
			if err := do(block); err != nil {
				return crc, err
			}
			block = block[:0]
		}
	}
	crc = crc32.Update(crc, castagnoli, block)
	return crc, do(binary.LittleEndian.AppendUint32(block, crc))
}
