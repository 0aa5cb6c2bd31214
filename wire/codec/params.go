package codec

import (
	"errors"
	"fmt"
)

// Errors to test for with errors.Is. Every error of this package wraps one.
var (
	// ErrCorrupt says that bytes to decode break the format or lie about a size.
	ErrCorrupt = errors.New("corrupt chunk")
	// ErrUnsupported says that the bytes are well-formed but that this
	// package does not read them.
	ErrUnsupported = errors.New("unsupported chunk")
	// ErrParams says that a name, level, shuffle or size is outside its range.
	ErrParams = errors.New("bad codec parameter")
)

// Limits and defaults.
const (
	MinLevel = 0 // plain copy in a container
	MaxLevel = 9

	DefaultLevel     = 5
	DefaultZlibLevel = 6

	// MaxChunkLen is the largest chunk in bytes that a container can hold.
	MaxChunkLen = 1<<31 - 1 - HeaderLen
	// MaxTypeSize is the largest element in bytes that is shuffled.
	MaxTypeSize = 255
)

// Name is a codec. The zero value is [None].
type Name uint8

// The codecs. BloscLZ is only decoded. Snappy is recognised and refused. Auto
// is a request to decide by sample, see [Decide], and encodes nothing itself.
const (
	None Name = iota
	LZ4
	Zlib
	Zstd
	BloscLZ
	Snappy
	Auto
)

var names = [...]string{None: "none", LZ4: "lz4", Zlib: "zlib", Zstd: "zstd", BloscLZ: "blosclz", Snappy: "snappy", Auto: "auto"}

func (n Name) String() string {
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("codec(%d)", uint8(n))
}

// ParseName reads auto, none, lz4, zlib or zstd, the codecs that a user may
// ask for. The error wraps [ErrParams].
func ParseName(s string) (Name, error) {
	for _, n := range [...]Name{Auto, None, LZ4, Zlib, Zstd} {
		if names[n] == s {
			return n, nil
		}
	}
	return None, fmt.Errorf("codec: %w: unknown codec %q; use auto, none, lz4, zlib or zstd", ErrParams, s)
}

// Shuffle is the reordering of a block before compression. The zero value is
// [ShuffleAuto].
type Shuffle uint8

// The shuffles. ShuffleAuto means byte shuffle for elements of 2 to 255 bytes
// and none for others.
const (
	ShuffleAuto Shuffle = iota
	ShuffleNone
	ShuffleByte
	ShuffleBit
)

var shuffles = [...]string{ShuffleAuto: "auto", ShuffleNone: "none", ShuffleByte: "byte", ShuffleBit: "bit"}

func (s Shuffle) String() string {
	if int(s) < len(shuffles) {
		return shuffles[s]
	}
	return fmt.Sprintf("shuffle(%d)", uint8(s))
}

// ParseShuffle reads auto, none, byte or bit. The error wraps [ErrParams].
func ParseShuffle(s string) (Shuffle, error) {
	for i, name := range shuffles {
		if name == s {
			return Shuffle(i), nil
		}
	}
	return ShuffleAuto, fmt.Errorf("codec: %w: unknown shuffle %q; use auto, none, byte or bit", ErrParams, s)
}

// Params says how to encode a chunk. The zero value encodes nothing: bytes go
// out as they are, without a container.
type Params struct {
	Name      Name    // None, LZ4, Zlib or Zstd
	Level     int     // 0 (plain copy in a container) to 9, as C-Blosc's clevel
	Shuffle   Shuffle // what to do before compression
	TypeSize  int     // bytes of one element; 0 means 1, over 255 is treated as 1
	BlockSize int     // 0 lets level and typesize choose; else bytes, as C-Blosc's forced block size
}

// Default returns the parameters of a codec when the user gave only its name:
// level 5, for zlib 6, and the shuffle that fits elements of typeSize bytes.
func Default(n Name, typeSize int) Params {
	switch n {
	case None, Auto:
		return Params{Name: n, TypeSize: typeSize}
	case Zlib:
		return Params{Name: n, Level: DefaultZlibLevel, TypeSize: typeSize}
	}
	return Params{Name: n, Level: DefaultLevel, TypeSize: typeSize}
}

// Check reports whether p can be given to AppendEncode. The error wraps
// [ErrParams] and says what to give instead.
func (p Params) Check() error {
	switch {
	case p.Name == Auto:
		return fmt.Errorf("codec: %w: auto must be settled by Decide before encoding", ErrParams)
	case p.Name > Zstd:
		return fmt.Errorf("codec: %w: cannot encode %v; use none, lz4, zlib or zstd", ErrParams, p.Name)
	case p.Level < MinLevel || p.Level > MaxLevel:
		return fmt.Errorf("codec: %w: level %d is not in %d..%d", ErrParams, p.Level, MinLevel, MaxLevel)
	case p.Shuffle > ShuffleBit:
		return fmt.Errorf("codec: %w: %v; use auto, none, byte or bit", ErrParams, p.Shuffle)
	case p.TypeSize < 0:
		return fmt.Errorf("codec: %w: type size %d is negative", ErrParams, p.TypeSize)
	case p.BlockSize < 0:
		return fmt.Errorf("codec: %w: block size %d is negative", ErrParams, p.BlockSize)
	}
	return nil
}

// Settled returns p with type size and shuffle as they go into the header of
// a container.
func (p Params) Settled() Params {
	if p.TypeSize == 0 {
		p.TypeSize = 1
	}
	if p.TypeSize > MaxTypeSize {
		p.TypeSize, p.Shuffle = 1, ShuffleNone
	}
	if p.Shuffle == ShuffleAuto {
		p.Shuffle = ShuffleNone
		if p.TypeSize > 1 {
			p.Shuffle = ShuffleByte
		}
	}
	return p
}
