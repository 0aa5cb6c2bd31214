package array

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrZarr is wrapped by every refusal of malformed Zarr metadata;
// ErrUnsupportedZarr by every refusal of something that may be good Zarr v3 and
// that ndferry does not carry.
var (
	ErrZarr            = errors.New("bad zarr metadata")
	ErrUnsupportedZarr = errors.New("zarr feature not supported")
)

// Meta describes an array: what Zarr v3 array metadata says, without the way it
// is cut into files. The same Meta has two texts.
//
// The wire form (AppendWire) is an unsharded array whose chunks are the cells:
//
//	chunk_grid  regular, chunk_shape = Cell
//	codecs      transpose{order}, bytes{endian}, Codecs...
//
// transpose is left out for C order, endian for one-byte types.
//
// The stored form (AppendStored) is an array of one shard, whose inner chunks
// are the cells, so that the array is one file:
//
//	chunk_grid  regular, chunk_shape = Shard (Cell times the cells per axis)
//	codecs      sharding_indexed{chunk_shape = Cell, index_location = end,
//	              codecs = those of the wire form,
//	              index_codecs = bytes{little}, crc32c}
//
// under the single key c.0.0... (ShardKey). transpose stays inside of the shard:
// zarr-python reads parts of a shard only when sharding is the outermost codec.
// 0-d arrays are sharded like all others, with chunk_shape [] and the key c.
// Empty arrays have no file, and chunk lengths of at least 1. Measured:
// zarr-python 3.1.6 and TensorStore 0.1.86 read all of these; they refuse chunk
// length 0, a shard that is no multiple of its cells, and a short last cell. In
// the stored form TensorStore reads up to 31 axes, zarr-python up to 63.
//
// A Meta is plain data: the caller owns its slices.
type Meta struct {
	Shape  Shape
	DType  DType
	Cell   Shape // logical axes, each at least 1
	Order  Order // memory order of a cell; nil: C
	Codecs []Codec

	// Fill is the value of chunks that are missing, as JSON in Zarr's form for
	// the type. nil: zero.
	Fill jsontext.Value

	// DimNames has one entry per axis. nil, only when parsed: there are none.
	DimNames []DimName

	// Attributes is the text of the user's JSON object, kept as it was written.
	// nil: {}.
	Attributes jsontext.Value
}

// Clone returns m with lists of its own. The texts, which nobody changes, are shared.
func (m *Meta) Clone() Meta {
	c := *m
	c.Shape, c.Cell, c.Order = slices.Clone(m.Shape), slices.Clone(m.Cell), slices.Clone(m.Order)
	c.Codecs, c.DimNames = slices.Clone(m.Codecs), slices.Clone(m.DimNames)
	return c
}

// Codec is one bytes-to-bytes codec: its Zarr name, and its configuration as
// JSON, nil when there is none. Blosc is the only one that is carried.
type Codec struct {
	Name          string
	Configuration jsontext.Value
}

// DimName is the name of one axis. Null is Zarr's null: no name.
type DimName struct {
	Name string
	Null bool
}

// DefaultDimNames returns the names that an array gets when the user gives
// none: the last part of the array's name and the number of the axis, as in
// sst_0, sst_1. xarray opens no array whose axes have no names.
func DefaultDimNames(name string, n int) []DimName {
	base := name[strings.LastIndexByte(name, '/')+1:]
	names := make([]DimName, n)
	for i := range names {
		names[i].Name = base + "_" + strconv.Itoa(i)
	}
	return names
}

// Grid returns the grid of cells. Errors wrap ErrShape.
func (m *Meta) Grid() (Grid, error) { return NewGrid(m.Shape, m.Cell, m.Order) }

// CellBytes returns the size of one raw cell. Errors wrap ErrShape.
func (m *Meta) CellBytes() (int, error) { return m.Cell.Bytes(m.DType.ItemSize()) }

// FillBytes returns the element that Fill stands for, in the byte order of the
// type: zero when there is no Fill. Errors wrap ErrZarr.
func (m *Meta) FillBytes() ([]byte, error) {
	if m.Fill == nil {
		return make([]byte, m.DType.ItemSize()), nil
	}
	return FillBytes(m.DType, m.Fill)
}

// Shard returns the chunk_shape of the stored form: the padded shape, axes of
// length 0 as long as one cell.
func (m *Meta) Shard() Shape {
	shard := make(Shape, len(m.Shape))
	for axis, n := range m.Shape {
		shard[axis] = max(ceilDiv(n, m.Cell[axis]), 1) * m.Cell[axis]
	}
	return shard
}

// Check reports whether the description is whole and within the limits. Errors
// wrap ErrShape, ErrUnsupportedDType, ErrZarr or ErrUnsupportedZarr.
func (m *Meta) Check() error {
	if !m.DType.Valid() {
		return zarrError("data_type", errors.New("there is none"))
	}
	if _, err := m.Grid(); err != nil {
		return err
	}
	size := m.DType.ItemSize()
	if _, err := m.Cell.Bytes(size); err != nil {
		return err
	}
	if _, err := m.Shard().Bytes(size); err != nil {
		return fmt.Errorf("array: cell %v of shape %v: padded: %w", m.Cell, m.Shape, err)
	}
	if m.DimNames != nil && len(m.DimNames) != len(m.Shape) {
		return zarrError("dimension_names", fmt.Errorf("%d names for %d axes", len(m.DimNames), len(m.Shape)))
	}
	for _, d := range m.DimNames {
		if len(d.Name) > MaxDimNameBytes {
			return zarrError("dimension_names", fmt.Errorf("a name of %d bytes, the most is %d", len(d.Name), MaxDimNameBytes))
		}
	}
	if err := m.checkCodecs(); err != nil {
		return err
	}
	if _, err := m.FillBytes(); err != nil {
		return err
	}
	if m.Attributes != nil {
		return CheckAttributes(m.Attributes)
	}
	return nil
}

// AppendWire appends the wire form. DimNames must be set. Errors are those of
// Check, and dst is then returned as it was.
func (m *Meta) AppendWire(dst []byte) ([]byte, error) { return m.append(dst, m.Cell, m.appendCodecs) }

// AppendStored appends the stored form. DimNames must be set. Errors are those
// of Check, and dst is then returned as it was.
func (m *Meta) AppendStored(dst []byte) ([]byte, error) {
	return m.append(dst, nil, func(dst []byte) []byte {
		dst = append(dst, `[{"name":"sharding_indexed","configuration":{"chunk_shape":`...)
		dst = appendInts(dst, m.Cell)
		dst = append(dst, `,"codecs":`...)
		dst = m.appendCodecs(dst)
		dst = append(dst, `,"index_codecs":[{"name":"bytes","configuration":{"endian":"little"}},{"name":"crc32c"}]`...)
		return append(dst, `,"index_location":"end"}}]`...)
	})
}

// append writes the document. chunk nil stands for the shard.
func (m *Meta) append(dst []byte, chunk Shape, codecs func([]byte) []byte) ([]byte, error) {
	if err := m.Check(); err != nil {
		return dst, err
	}
	if len(m.DimNames) != len(m.Shape) {
		return dst, zarrError("dimension_names", errors.New("there are none; see DefaultDimNames"))
	}
	if chunk == nil {
		chunk = m.Shard()
	}
	begin := len(dst)
	dst = append(dst, `{"zarr_format":3,"node_type":"array","shape":`...)
	dst = appendInts(dst, m.Shape)
	dst = append(dst, `,"data_type":`...)
	dst = m.DType.AppendZarrType(dst)
	dst = append(dst, `,"chunk_grid":{"name":"regular","configuration":{"chunk_shape":`...)
	dst = appendInts(dst, chunk)
	dst = append(dst, `}},"chunk_key_encoding":{"name":"default","configuration":{"separator":"."}},"fill_value":`...)
	if m.Fill != nil {
		dst = append(dst, m.Fill...)
	} else {
		dst = append(dst, zeroFill(m.DType)...)
	}
	dst = append(dst, `,"codecs":`...)
	dst = codecs(dst)
	dst = append(dst, `,"dimension_names":[`...)
	for i, d := range m.DimNames {
		if i > 0 {
			dst = append(dst, ',')
		}
		if d.Null {
			dst = append(dst, "null"...)
			continue
		}
		var err error
		if dst, err = jsontext.AppendQuote(dst, d.Name); err != nil {
			return dst[:begin], zarrError("dimension_names", err)
		}
	}
	dst = append(dst, `],"attributes":`...)
	if m.Attributes != nil {
		dst = append(dst, m.Attributes...)
	} else {
		dst = append(dst, "{}"...)
	}
	return append(dst, '}'), nil
}

// appendCodecs writes the codecs of one cell.
func (m *Meta) appendCodecs(dst []byte) []byte {
	dst = append(dst, '[')
	if !m.Order.IsC() {
		dst = append(dst, `{"name":"transpose","configuration":{"order":`...)
		dst = appendInts(dst, m.Order)
		dst = append(dst, `}},`...)
	}
	dst = append(dst, `{"name":"bytes"`...)
	if endian := m.DType.zarrEndian(); endian != "" {
		dst = append(dst, `,"configuration":{"endian":"`+endian+`"}`...)
	}
	dst = append(dst, '}')
	for _, c := range m.Codecs {
		dst = append(dst, `,{"name":`...)
		dst, _ = jsontext.AppendQuote(dst, c.Name)
		if c.Configuration != nil {
			dst = append(dst, `,"configuration":`...)
			dst = append(dst, c.Configuration...)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func appendInts[S ~[]int](dst []byte, ints S) []byte {
	dst = append(dst, '[')
	for i, n := range ints {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	return append(dst, ']')
}

// AppendGroup appends the metadata of a group without attributes.
func AppendGroup(dst []byte) []byte {
	return append(dst, `{"zarr_format":3,"node_type":"group","attributes":{}}`...)
}

// Equal reports whether both describe the same array of the same cells, with
// the same names and the same text of attributes.
func (m *Meta) Equal(o *Meta) bool {
	return m.Shape.Equal(o.Shape) && m.DType.Equal(o.DType) && m.Cell.Equal(o.Cell) &&
		slices.Equal(m.Order.resolved(len(m.Shape)), o.Order.resolved(len(o.Shape))) &&
		slices.EqualFunc(m.Codecs, o.Codecs, func(a, b Codec) bool {
			return a.Name == b.Name && string(a.Configuration) == string(b.Configuration)
		}) &&
		m.sameFill(o) &&
		slices.Equal(m.DimNames, o.DimNames) &&
		(string(m.Attributes) == string(o.Attributes) ||
			isEmptyAttributes(m.Attributes) && isEmptyAttributes(o.Attributes))
}

// sameFill compares the elements, not their texts: 0 and 0.0 are one float.
func (m *Meta) sameFill(o *Meta) bool {
	a, errA := m.FillBytes()
	b, errB := o.FillBytes()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func isEmptyAttributes(raw jsontext.Value) bool { return raw == nil || string(raw) == "{}" }

func unsupported(what string) error {
	return fmt.Errorf("array: %w: %s", ErrUnsupportedZarr, what)
}
