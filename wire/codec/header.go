package codec

import (
	"encoding/binary"
	"fmt"
	"math"
)

// HeaderLen is the size of a container's header, and what a container adds to
// a chunk at most.
const HeaderLen = 16

// Numbers of the format and of C-Blosc's choices; do not tune.
const (
	formatVersion = 2
	streamVersion = 1

	flagShuffle    = 0x01
	flagCopy       = 0x02
	flagBitShuffle = 0x04
	flagReserved   = 0x08
	flagNoSplit    = 0x10
	formatShift    = 5

	formatBloscLZ = 0
	formatLZ4     = 1
	formatSnappy  = 2
	formatZlib    = 3
	formatZstd    = 4

	maxSplits     = 16  // streams of a split block
	minStreamLen  = 128 // decoded bytes of one stream of a split block, and of a chunk worth compressing
	maxBlockSize  = (math.MaxInt32 - maxTypeSizeStreams) / 3
	l1CacheLen    = 32 << 10
	minSplitBlock = 64 << 10
	maxSplitPart  = 256 << 10
	maxSplitBlock = 1 << 20

	maxTypeSizeStreams = MaxTypeSize * 4 // a size for each stream of the widest element
)

// Info is what the header of a container says.
type Info struct {
	Name      Name    // stream format; LZ4 to Snappy
	Shuffle   Shuffle // ShuffleNone, ShuffleByte or ShuffleBit
	Copied    bool    // plain copy: not compressed and not shuffled, whatever Shuffle says
	TypeSize  int     // bytes of one element, 1 to 255
	Len       int     // bytes of the decoded chunk
	BlockSize int     // bytes of a decoded block
	Encoded   int     // bytes of the container with its header

	noSplit bool
}

// MaxEncodedLen returns the most bytes that encoding a chunk of n bytes gives.
func MaxEncodedLen(n int) int { return n + HeaderLen }

// Parse reads the header of a container and checks that its fields agree with
// one another and with len(src), which must be the whole container. It does
// not look at the blocks. The error wraps [ErrCorrupt] or [ErrUnsupported].
func Parse(src []byte) (Info, error) {
	if len(src) < HeaderLen {
		return Info{}, fmt.Errorf("codec: parse: %w: %d bytes are fewer than the header's %d", ErrCorrupt, len(src), HeaderLen)
	}
	if src[0] != formatVersion {
		return Info{}, fmt.Errorf("codec: parse: %w: container version %d, not %d", ErrUnsupported, src[0], formatVersion)
	}
	flags := src[2]
	in := Info{
		Shuffle:  ShuffleNone,
		Copied:   flags&flagCopy != 0,
		TypeSize: int(src[3]),
		noSplit:  flags&flagNoSplit != 0,
	}
	n, block, c := le32(src[4:]), le32(src[8:]), le32(src[12:])
	switch {
	case flags&flagReserved != 0:
		return Info{}, fmt.Errorf("codec: parse: %w: reserved flag 0x08 is set", ErrUnsupported)
	case in.TypeSize == 0:
		return Info{}, fmt.Errorf("codec: parse: %w: type size 0", ErrCorrupt)
	case n > MaxChunkLen:
		return Info{}, fmt.Errorf("codec: parse: %w: chunk of %d bytes is over the limit of %d", ErrCorrupt, n, MaxChunkLen)
	case int64(c) != int64(len(src)):
		return Info{}, fmt.Errorf("codec: parse: %w: header says %d bytes, container has %d", ErrCorrupt, c, len(src))
	case n > 0 && (block == 0 || block > n || block > maxBlockSize):
		return Info{}, fmt.Errorf("codec: parse: %w: block size %d in a chunk of %d bytes", ErrCorrupt, block, n)
	case in.Copied && c != n+HeaderLen:
		return Info{}, fmt.Errorf("codec: parse: %w: plain copy of %d bytes in a container of %d", ErrCorrupt, n, c)
	}
	if flags&flagShuffle != 0 {
		in.Shuffle = ShuffleByte
	} else if flags&flagBitShuffle != 0 {
		in.Shuffle = ShuffleBit
	}
	in.Len, in.BlockSize, in.Encoded = int(n), int(block), int(c)
	var err error
	in.Name, err = streamName(flags>>formatShift, src[1], in.Copied)
	return in, err
}

func streamName(format, version byte, copied bool) (Name, error) {
	byFormat := [...]Name{formatBloscLZ: BloscLZ, formatLZ4: LZ4, formatSnappy: Snappy, formatZlib: Zlib, formatZstd: Zstd}
	if int(format) >= len(byFormat) {
		return None, fmt.Errorf("codec: parse: %w: stream format %d", ErrUnsupported, format)
	}
	if version != streamVersion && !copied {
		return None, fmt.Errorf("codec: parse: %w: version %d of %v streams", ErrUnsupported, version, byFormat[format])
	}
	return byFormat[format], nil
}

func le64(b []byte) uint64         { return binary.LittleEndian.Uint64(b) }
func putLE64(b []byte, v uint64)   { binary.LittleEndian.PutUint64(b, v) }
func le32(b []byte) uint32         { return binary.LittleEndian.Uint32(b) }
func putLE32(b []byte, v int)      { binary.LittleEndian.PutUint32(b, uint32(v)) }
func (in Info) blocks() (n int)    { return (in.Len + in.BlockSize - 1) / in.BlockSize }
func (in Info) blockLen(i int) int { return min(in.BlockSize, in.Len-i*in.BlockSize) }

// streams returns how many streams a block of n bytes is stored as.
func (in Info) streams(n int) int {
	if in.noSplit || n != in.BlockSize || in.TypeSize > maxSplits || n/in.TypeSize < minStreamLen {
		return 1
	}
	return in.TypeSize
}

// putHeader writes in as the header of a container into dst[:HeaderLen].
func (in Info) putHeader(dst []byte) {
	flags := map[Name]byte{LZ4: formatLZ4, Zlib: formatZlib, Zstd: formatZstd}[in.Name] << formatShift
	if in.Copied {
		flags |= flagCopy
	}
	switch in.Shuffle {
	case ShuffleByte:
		flags |= flagShuffle
	case ShuffleBit:
		flags |= flagBitShuffle
	}
	if in.noSplit {
		flags |= flagNoSplit
	}
	dst[0], dst[1], dst[2], dst[3] = formatVersion, streamVersion, flags, byte(in.TypeSize)
	putLE32(dst[4:], in.Len)
	putLE32(dst[8:], in.BlockSize)
	putLE32(dst[12:], in.Encoded)
}

// splits is C-Blosc's default rule for which blocks it splits.
func splits(n Name, typeSize, blockSize int) bool {
	return n != Zstd && typeSize <= maxSplits && blockSize/typeSize >= minStreamLen
}

// blockSize is C-Blosc's choice of block size for settled parameters.
func blockSize(p Params, n int) int {
	if n < p.TypeSize {
		return 1
	}
	size := n
	if p.BlockSize != 0 {
		size = min(max(p.BlockSize, minStreamLen), maxBlockSize)
	} else if n >= l1CacheLen {
		size = l1CacheLen
		if p.Name != LZ4 {
			size *= 2
		}
		quarters := [MaxLevel + 1]int{1, 2, 4, 8, 16, 16, 32, 32, 32, 32}
		size = size / 4 * quarters[p.Level]
		if p.Level == MaxLevel && p.Name != LZ4 {
			size *= 2
		}
	}
	if p.Level > 0 && splits(p.Name, p.TypeSize, size) {
		size = min(size, maxSplitPart) * p.TypeSize
		size = min(max(size, minSplitBlock), maxSplitBlock)
	}
	size = min(size, n)
	if size > p.TypeSize {
		size -= size % p.TypeSize
	}
	return size
}
