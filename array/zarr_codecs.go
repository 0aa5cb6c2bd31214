package array

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// parseCodecs reads the codecs of an array, which settle cell, order and byte
// order. A shard stands alone: codecs around it would have to be undone for the
// whole shard before one cell can be read.
func (z *ZarrArray) parseCodecs(raw jsontext.Value, typeName string, chunk Shape) error {
	list, err := parseExtensions(raw)
	if err != nil {
		return err
	}
	z.Cell = chunk
	if len(list) == 0 || list[0].name != "sharding_indexed" {
		return z.parseCellCodecs(list, typeName)
	}
	if len(list) > 1 {
		return unsupported("codecs around sharding_indexed")
	}
	z.ShardShape, z.Cell = chunk, nil
	var index []extension
	seen := map[string]bool{}
	for _, m := range list[0].config {
		seen[m.name] = true
		switch m.name {
		case "chunk_shape":
			z.Cell, err = jsonInts(m.value)
		case "codecs":
			list, err = parseExtensions(m.value)
		case "index_codecs":
			index, err = parseExtensions(m.value)
		case "index_location":
			z.IndexAtStart, err = parseIndexLocation(m.value)
		default:
			err = unsupported("member " + quote(m.name))
		}
		if err != nil {
			return err
		}
	}
	if !seen["chunk_shape"] || !seen["codecs"] || !seen["index_codecs"] {
		return errors.New("chunk_shape, codecs or index_codecs of sharding_indexed is missing")
	}
	if err := z.parseIndexCodecs(index); err != nil {
		return err
	}
	return z.parseCellCodecs(list, typeName)
}

func parseExtensions(raw jsontext.Value) ([]extension, error) {
	values, err := elements(raw, MaxCodecs)
	if err != nil {
		return nil, err
	}
	list := make([]extension, len(values))
	for i, v := range values {
		if list[i], err = parseExtension(v); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func parseIndexLocation(raw jsontext.Value) (atStart bool, err error) {
	switch where, _ := jsonString(raw); where {
	case "start":
		return true, nil
	case "end":
		return false, nil
	}
	return false, fmt.Errorf("index_location %s is not start or end", quote(string(raw)))
}

// parseIndexCodecs takes the two forms that have a fixed size: bytes{little}
// with and without crc32c.
func (z *ZarrArray) parseIndexCodecs(list []extension) error {
	if len(list) == 0 || list[0].name != "bytes" || len(list) > 2 {
		return unsupported("index_codecs other than bytes and crc32c")
	}
	endian, err := list[0].endian()
	if err != nil {
		return err
	}
	if endian != "little" {
		return unsupported("a shard index that is not little-endian")
	}
	if len(list) == 2 {
		if list[1].name != "crc32c" || len(list[1].config) > 0 {
			return unsupported("index_codecs other than bytes and crc32c")
		}
		z.IndexCRC = true
	}
	return nil
}

// parseCellCodecs reads transpose (if any), bytes, and what follows it.
func (z *ZarrArray) parseCellCodecs(list []extension, typeName string) error {
	if len(list) > 0 && list[0].name == "transpose" {
		order, err := list[0].order()
		if err != nil {
			return err
		}
		if err := order.Check(len(z.Shape)); err != nil {
			return err
		}
		z.Order, list = order, list[1:]
	}
	if len(list) == 0 {
		return errors.New("the bytes codec is missing")
	}
	if list[0].name != "bytes" {
		return unsupported("codec " + quote(list[0].name))
	}
	endian, err := list[0].endian()
	if err != nil {
		return err
	}
	if z.DType, err = ParseZarrType(typeName, endian == "big"); err != nil {
		return err
	}
	if endian == "" && z.DType.HasByteOrder() {
		return errors.New("endian of the bytes codec is missing")
	}
	for _, e := range list[1:] {
		c := Codec{Name: e.name, Configuration: e.raw}
		b, err := c.Blosc()
		if err != nil {
			return err
		}
		z.Codecs = append(z.Codecs, b.Codec())
	}
	return nil
}

// endian returns "big", "little", or "" when a bytes codec does not say.
func (e extension) endian() (string, error) {
	endian := ""
	for _, m := range e.config {
		if m.name != "endian" {
			return "", unsupported("member " + quote(m.name))
		}
		var err error
		if endian, err = jsonString(m.value); err != nil || endian != "big" && endian != "little" {
			return "", fmt.Errorf("endian %s is not big or little", quote(string(m.value)))
		}
	}
	return endian, nil
}

// order returns the permutation of a transpose codec.
func (e extension) order() (Order, error) {
	var order Order
	for _, m := range e.config {
		if m.name != "order" {
			return nil, unsupported("member " + quote(m.name))
		}
		ints, err := jsonInts(m.value)
		if err != nil {
			return nil, err
		}
		order = ints
	}
	if order == nil {
		return nil, errors.New("order of transpose is missing")
	}
	return order, nil
}

// checkShard checks that a shard is whole cells.
func (z *ZarrArray) checkShard() error {
	if z.ShardShape == nil {
		return nil
	}
	if len(z.ShardShape) != len(z.Cell) {
		return zarrError("chunk_grid", fmt.Errorf("a shard of %d axes for %d", len(z.ShardShape), len(z.Cell)))
	}
	for axis, n := range z.ShardShape {
		if n < 1 || n%z.Cell[axis] != 0 {
			return zarrError("chunk_grid", fmt.Errorf("shard %v is not whole cells of %v", z.ShardShape, z.Cell))
		}
	}
	_, err := z.ShardShape.Bytes(z.DType.ItemSize())
	return err
}

// IsStoredForm reports whether the files are those of the stored form (see
// Meta): one shard for the whole array, its index at the end with a CRC32C, and
// keys with ".".
func (z *ZarrArray) IsStoredForm() bool {
	return z.ShardShape != nil && z.ShardShape.Equal(z.Shard()) &&
		!z.IndexAtStart && z.IndexCRC && z.Separator == '.' && !z.V2Keys
}

// IsWireForm reports whether the document can be a wire form: unsharded, keys
// with ".".
func (z *ZarrArray) IsWireForm() bool {
	return z.ShardShape == nil && z.Separator == '.' && !z.V2Keys
}
