package array

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// BloscName is the name of the one chunk codec that is carried besides none.
const BloscName = "blosc"

// Blosc is the configuration of Zarr v3's blosc codec
// (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/blosc/index.html). It
// says how chunks were asked to be encoded; each chunk's own header says how it
// is. Only compressors that ndferry writes are carried.
type Blosc struct {
	CName     string // lz4, zlib or zstd
	CLevel    int    // 0 to 9
	Shuffle   string // noshuffle, shuffle or bitshuffle
	TypeSize  int    // bytes that shuffle takes as one element, 1 to 255; 0, with noshuffle only: not said
	BlockSize int    // bytes; 0: the encoder chooses
}

// maxBloscBlock bounds blocksize: the container has 31 bits for it.
const maxBloscBlock = 1<<31 - 1

// Names that a blosc codec may have for its compressor and its shuffle.
var (
	bloscCompressors = []string{"lz4", "zlib", "zstd"}
	bloscShuffles    = []string{"noshuffle", "shuffle", "bitshuffle"}
)

// Check refuses what is outside of the ranges of the fields.
func (b Blosc) Check() error {
	switch {
	case !slices.Contains(bloscCompressors, b.CName):
		return unsupported("blosc compressor " + quote(b.CName))
	case b.CLevel < 0 || b.CLevel > 9:
		return fmt.Errorf("blosc: clevel %d is not in 0..9", b.CLevel)
	case !slices.Contains(bloscShuffles, b.Shuffle):
		return fmt.Errorf("blosc: shuffle %s is not noshuffle, shuffle or bitshuffle", quote(b.Shuffle))
	case b.TypeSize < 0 || b.TypeSize > 255 || b.TypeSize == 0 && b.Shuffle != "noshuffle":
		return fmt.Errorf("blosc: typesize %d is not in 1..255", b.TypeSize)
	case b.BlockSize < 0 || b.BlockSize > maxBloscBlock:
		return fmt.Errorf("blosc: blocksize %d is not in 0..%d", b.BlockSize, maxBloscBlock)
	}
	return nil
}

// Codec returns b as an entry of Meta.Codecs, in the one text that Equal compares.
func (b Blosc) Codec() Codec {
	c := append([]byte(nil), `{"cname":"`+b.CName+`","clevel":`...)
	c = strconv.AppendInt(c, int64(b.CLevel), 10)
	c = append(c, `,"shuffle":"`+b.Shuffle+`"`...)
	if b.TypeSize > 0 {
		c = append(c, `,"typesize":`...)
		c = strconv.AppendInt(c, int64(b.TypeSize), 10)
	}
	c = append(c, `,"blocksize":`...)
	c = strconv.AppendInt(c, int64(b.BlockSize), 10)
	return Codec{Name: BloscName, Configuration: append(c, '}')}
}

// Blosc returns the configuration of the blosc codec. Errors wrap ErrZarr or
// ErrUnsupportedZarr.
func (c Codec) Blosc() (Blosc, error) {
	if c.Name != BloscName {
		return Blosc{}, unsupported("codec " + quote(c.Name))
	}
	b, err := parseBlosc(c.Configuration)
	if err != nil {
		return Blosc{}, zarrWrap("codecs", err)
	}
	return b, nil
}

func parseBlosc(raw jsontext.Value) (Blosc, error) {
	if raw == nil {
		return Blosc{}, errors.New("blosc: configuration is missing")
	}
	list, err := members(raw)
	if err != nil {
		return Blosc{}, err
	}
	var b Blosc
	seen := map[string]bool{}
	for _, m := range list {
		seen[m.name] = true
		switch m.name {
		case "cname":
			b.CName, err = jsonString(m.value)
		case "clevel":
			b.CLevel, err = strconv.Atoi(string(m.value))
		case "shuffle":
			b.Shuffle, err = jsonString(m.value)
		case "typesize":
			if b.TypeSize, err = strconv.Atoi(string(m.value)); err == nil && b.TypeSize < 1 {
				err = errors.New("it is below 1")
			}
		case "blocksize":
			b.BlockSize, err = strconv.Atoi(string(m.value))
		default:
			return b, unsupported("member " + quote(m.name) + " of blosc")
		}
		if err != nil {
			return b, fmt.Errorf("blosc: %s %s: %w", m.name, quote(string(m.value)), err)
		}
	}
	for _, name := range []string{"cname", "clevel", "shuffle"} {
		if !seen[name] {
			return b, fmt.Errorf("blosc: %s is missing", name)
		}
	}
	return b, b.Check()
}

// Compressor returns the compressor of the chunks: none, or the cname of blosc.
// The Meta must satisfy Check.
func (m *Meta) Compressor() string {
	if len(m.Codecs) == 0 {
		return "none"
	}
	b, err := m.Codecs[0].Blosc()
	if err != nil {
		return m.Codecs[0].Name
	}
	return b.CName
}

// checkCodecs refuses everything but no codec and one blosc.
func (m *Meta) checkCodecs() error {
	for i, c := range m.Codecs {
		if _, err := c.Blosc(); err != nil {
			return err
		}
		if i > 0 {
			return unsupported("more than one chunk codec")
		}
	}
	return nil
}
