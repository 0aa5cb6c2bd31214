package array

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// ZarrArray is what a zarr.json of an array says: the array, and how it lies in
// files. It is what ParseZarrArray returns, for arrays of ours (both forms) and
// of others. Meta.Cell is the smallest part that can be read by itself: the
// chunk, or the inner chunk of a shard.
type ZarrArray struct {
	Meta

	// ShardShape is the chunk_shape of the files when they are shards, nil when
	// each cell is a file of its own.
	ShardShape Shape

	// IndexAtStart says where a shard's index is; ours have it at the end.
	IndexAtStart bool

	// IndexCRC says that a shard's index ends with a CRC32C; ours do.
	IndexCRC bool

	// Separator is "." or "/", between the numbers of a chunk's key.
	Separator byte

	foreign bool // codecs are not looked into

	// V2Keys says that keys are "0.1" as in Zarr v2, not "c.0.1".
	V2Keys bool
}

// ParseZarrArray reads Zarr v3 array metadata (the core specification 3.0,
// "Array metadata"), strictly: duplicate names, unknown members (unless they are
// objects with "must_understand": false), numbers out of range and lists over
// their limits are refused. The result satisfies Meta.Check. Errors wrap ErrZarr,
// ErrUnsupportedZarr, ErrUnsupportedDType or ErrShape.
func ParseZarrArray(raw []byte) (*ZarrArray, error) { return parseZarrArray(raw, true) }

// ParseForeignZarr is ParseZarrArray for arrays that others wrote: Codecs may be
// any, and the result satisfies Meta.Check but for them.
func ParseForeignZarr(raw []byte) (*ZarrArray, error) { return parseZarrArray(raw, false) }

func parseZarrArray(raw []byte, ours bool) (*ZarrArray, error) {
	doc, err := zarrDocument(raw, "array")
	if err != nil {
		return nil, err
	}
	z := &ZarrArray{Separator: '/', foreign: !ours}
	var typeJSON jsontext.Value
	var chunk Shape
	var codecs jsontext.Value
	seen := map[string]bool{}
	for _, m := range doc {
		seen[m.name] = true
		var err error
		switch m.name {
		case "zarr_format", "node_type": // checked by zarrDocument
		case "shape":
			z.Shape, err = jsonInts(m.value)
		case "data_type":
			typeJSON = m.value
		case "chunk_grid":
			chunk, err = parseChunkGrid(m.value)
		case "chunk_key_encoding":
			err = z.parseKeys(m.value)
		case "fill_value":
			z.Fill = m.value
		case "codecs":
			codecs = m.value
		case "attributes":
			z.Attributes, err = m.value, CheckAttributes(m.value)
		case "dimension_names":
			z.DimNames, err = parseDimNames(m.value)
		case "storage_transformers":
			err = refuseTransformers(m.value)
		default:
			err = refuseUnknown(m)
		}
		if err != nil {
			return nil, zarrWrap(m.name, err)
		}
	}
	for _, name := range []string{"shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"} {
		if !seen[name] {
			return nil, zarrError(name, errors.New("it is missing"))
		}
	}
	if err := z.parseCodecs(codecs, typeJSON, chunk); err != nil {
		return nil, zarrWrap("codecs", err)
	}
	list := z.Codecs
	if !ours {
		z.Codecs = nil
	}
	if err := z.Check(); err != nil {
		return nil, err
	}
	z.Codecs = list
	if err := z.checkShard(); err != nil {
		return nil, err
	}
	return z, nil
}

// ZarrNodeType returns "array" or "group", whichever a zarr.json describes, and
// checks nothing else but its syntax. Errors wrap ErrZarr.
func ZarrNodeType(raw []byte) (string, error) {
	doc, err := zarrDocument(raw, "")
	if err != nil {
		return "", err
	}
	for _, m := range doc {
		if m.name == "node_type" {
			return jsonString(m.value)
		}
	}
	return "", zarrError("node_type", errors.New("it is missing"))
}

// zarrDocument splits a zarr.json and checks its version and its type; the
// empty type stands for any.
func zarrDocument(raw []byte, nodeType string) ([]member, error) {
	if len(raw) > MaxMetaBytes {
		return nil, zarrError("document", fmt.Errorf("%d bytes, the most is %d", len(raw), MaxMetaBytes))
	}
	doc, err := members(raw)
	if err != nil {
		return nil, zarrError("document", err)
	}
	var format, node bool
	for _, m := range doc {
		switch m.name {
		case "zarr_format":
			if format = string(m.value) == "3"; !format {
				return nil, zarrError("zarr_format", fmt.Errorf("%s, only 3 is known", quote(string(m.value))))
			}
		case "node_type":
			got, err := jsonString(m.value)
			if err != nil || got != "array" && got != "group" || nodeType != "" && got != nodeType {
				return nil, zarrError("node_type", fmt.Errorf("unexpected %s", quote(string(m.value))))
			}
			node = true
		}
	}
	if !format || !node {
		return nil, zarrError("document", errors.New("zarr_format or node_type is missing"))
	}
	return doc, nil
}

// extension is Zarr's form of everything that can be extended: a name, or an
// object of name and configuration.
type extension struct {
	name   string
	config []member
	raw    jsontext.Value // the configuration, nil when there is none
}

func parseExtension(raw jsontext.Value) (extension, error) {
	var e extension
	var err error
	if raw.Kind() == '"' {
		e.name, err = jsonString(raw)
		return e, err
	}
	list, err := members(raw)
	if err != nil {
		return e, err
	}
	named := false
	for _, m := range list {
		switch m.name {
		case "name":
			e.name, err = jsonString(m.value)
			named = true
		case "configuration":
			e.raw = m.value
			e.config, err = members(m.value)
		case "must_understand":
			if m.value.Kind() != 't' && m.value.Kind() != 'f' {
				err = errors.New("must_understand is not true or false")
			}
		default:
			err = refuseUnknown(m)
		}
		if err != nil {
			return e, err
		}
	}
	if !named {
		return e, errors.New("name is missing")
	}
	return e, nil
}

// refuseUnknown accepts an unknown member only if it is an object that says
// that it need not be understood.
func refuseUnknown(m member) error {
	if m.value.Kind() == '{' {
		list, err := members(m.value)
		if err != nil {
			return err
		}
		for _, in := range list {
			if in.name == "must_understand" && in.value.Kind() == 'f' {
				return nil
			}
		}
	}
	return unsupported("member " + quote(m.name))
}

func parseChunkGrid(raw jsontext.Value) (Shape, error) {
	e, err := parseExtension(raw)
	if err != nil {
		return nil, err
	}
	if e.name != "regular" {
		return nil, unsupported("chunk grid " + quote(e.name))
	}
	var chunk Shape
	for _, m := range e.config {
		if m.name != "chunk_shape" {
			return nil, unsupported("member " + quote(m.name))
		}
		if chunk, err = jsonInts(m.value); err != nil {
			return nil, err
		}
	}
	if chunk == nil {
		return nil, errors.New("chunk_shape is missing")
	}
	return chunk, nil
}

func (z *ZarrArray) parseKeys(raw jsontext.Value) error {
	e, err := parseExtension(raw)
	if err != nil {
		return err
	}
	switch e.name {
	case "default":
	case "v2":
		z.V2Keys, z.Separator = true, '.'
	default:
		return unsupported("chunk key encoding " + quote(e.name))
	}
	for _, m := range e.config {
		if m.name != "separator" {
			return unsupported("member " + quote(m.name))
		}
		switch sep, _ := jsonString(m.value); sep {
		case ".", "/":
			z.Separator = sep[0]
		default:
			return fmt.Errorf("separator %s is not . or /", quote(string(m.value)))
		}
	}
	return nil
}

func parseDimNames(raw jsontext.Value) ([]DimName, error) {
	values, err := elements(raw, MaxDims)
	if err != nil {
		return nil, err
	}
	names := make([]DimName, len(values))
	for i, v := range values {
		if v.Kind() == 'n' {
			names[i].Null = true
		} else if names[i].Name, err = jsonString(v); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func refuseTransformers(raw jsontext.Value) error {
	list, err := elements(raw, MaxCodecs)
	if err == nil && len(list) > 0 {
		err = unsupported("storage transformers")
	}
	return err
}

// zarrWrap adds where to an error that has no class yet.
func zarrWrap(where string, err error) error {
	for _, class := range []error{ErrZarr, ErrUnsupportedZarr, ErrUnsupportedDType, ErrShape} {
		if errors.Is(err, class) {
			return err
		}
	}
	return zarrError(where, err)
}
