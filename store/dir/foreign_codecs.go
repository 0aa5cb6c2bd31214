package dir

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"ndferry/array"
	"ndferry/wire/codec"
)

// decodeForeign undoes the codecs of a chunk, last first, into dst, whose length is that of the decoded chunk.
func decodeForeign(dst, raw []byte, codecs []array.Codec) error {
	// A checksum inside of a compression makes the result longer than dst for a while.
	most := len(dst) + crc32.Size*len(codecs)
	for i := len(codecs) - 1; i >= 0; i-- {
		var err error
		if raw, err = decodeOne(raw, codecs[i].Name, most); err != nil {
			return fmt.Errorf("codec %s: %w", codecs[i].Name, err)
		}
	}
	if len(raw) != len(dst) {
		return fmt.Errorf("%d bytes after decoding, %d were expected", len(raw), len(dst))
	}
	copy(dst, raw)
	return nil
}

func decodeOne(raw []byte, name string, most int) ([]byte, error) {
	switch name {
	case "crc32c":
		n := len(raw) - crc32.Size
		if n < 0 || crc32.Checksum(raw[:n], castagnoli) != binary.LittleEndian.Uint32(raw[n:]) {
			return nil, errors.New("wrong CRC32C")
		}
		return raw[:n], nil
	case "blosc":
		info, err := codec.Parse(raw)
		if err != nil {
			return nil, err
		}
		if info.Len > most {
			return nil, fmt.Errorf("%d bytes, at most %d are expected", info.Len, most)
		}
		out := make([]byte, info.Len)
		return out, codec.Decode(out, raw)
	case "zstd", "numcodecs.zstd":
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(most)+1<<20), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return d.DecodeAll(raw, make([]byte, 0, most))
	case "gzip", "numcodecs.gzip":
		r, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		return readAll(r, most)
	case "zlib", "numcodecs.zlib":
		r, err := zlib.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		return readAll(r, most)
	}
	return nil, errors.New("it is not known; blosc, zstd, gzip and crc32c are")
}

func readAll(r io.Reader, most int) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err == nil && len(out) > most {
		err = fmt.Errorf("over %d bytes", most)
	}
	return out, err
}
