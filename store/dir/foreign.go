package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strconv"
	"sync"

	"ndferry/array"
	"ndferry/store"
)

var _ store.Array = (*foreignArray)(nil)

// Limits of arrays that others wrote.
const (
	maxForeignChunk = 512 << 20 // bytes of a decoded chunk
	smallForeign    = 64 << 10  // smaller chunks are served several at a time
)

// foreignArray is an array that another program wrote. Its chunks are decoded and cut anew into cells of codec none; nothing was recorded of
// them, so a CRC is that of what was read. It reads file by file: whoever changes the array meanwhile changes what is read.
type foreignArray struct {
	s    *Store
	path string
	zarr *array.ZarrArray
	info store.Info
	grid array.Grid // of the cells that are served
	size int        // bytes of such a cell
	item int

	packing array.Packing // of elements that are served in another byte order
	packs   bool

	mu    sync.Mutex
	shard shardIndex // guarded by mu: of the shard that was read last
	chunk array.Box  // guarded by mu: the chunk that was read last, or one of the fill value
	of    string     // guarded by mu: which that is
}

// isArray reports whether the node at a name says that it is an array.
func (s *Store) isArray(name string) bool {
	text, err := s.readFile(nodePath(name)+"/"+zarrJSON, maxZarrJSON)
	if err != nil {
		return false
	}
	kind, err := array.ZarrNodeType(text)
	return err == nil && kind == "array"
}

// openForeign opens an array that another program wrote.
func (s *Store) openForeign(name string) (*foreignArray, error) {
	a := &foreignArray{s: s, path: nodePath(name)}
	text, err := s.readFile(a.path+"/"+zarrJSON, maxZarrJSON)
	if err != nil {
		return nil, err
	}
	if a.zarr, err = array.ParseForeignZarr(text); err != nil {
		return nil, fmt.Errorf("%w: another program wrote it, and it cannot be served: %w", store.ErrInvalid, err)
	}
	if a.zarr.IsStoredForm() {
		return nil, &damage{a.path + "/" + sidecarName, 0, "the array is in ndferry's form and its sidecar is missing: restore it, or move the array out of the store; damaged"}
	}
	stat, err := s.fs.Stat(a.path + "/" + zarrJSON)
	if err != nil {
		return nil, err
	}
	z := a.zarr
	a.item = z.DType.ItemSize()
	if n, err := z.Cell.Bytes(a.item); err != nil || n > maxForeignChunk {
		return nil, fmt.Errorf("%w: chunks of %v, at most %d bytes are read", store.ErrInvalid, z.Cell, maxForeignChunk)
	}
	meta := array.Meta{Shape: z.Shape, DType: z.DType, Order: z.Order, Fill: z.Fill, DimNames: z.DimNames}
	numpy := ""
	if z.DType.Kind() == array.Complex && z.DType.BigEndian() { // which is served as it travels
		numpy, meta.DType, a.packing = string(z.DType.AppendNumPy(nil)), z.DType.Stored(), z.DType.Packing()
		a.packs = true
	}
	meta.Cell = servedCell(z)
	if meta.DimNames == nil {
		meta.DimNames = make([]array.DimName, len(z.Shape))
		for i := range meta.DimNames {
			meta.DimNames[i].Null = true
		}
	}
	if a.grid, err = meta.Grid(); err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	if a.size, err = meta.CellBytes(); err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	attributes := []byte(z.Attributes)
	if attributes == nil {
		attributes = []byte("{}")
	}
	cells, total, err := store.Sizes(&meta)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	a.info.Spec = store.Spec{Name: name, Meta: meta, NumPy: numpy, Attributes: attributes, Digest: store.DigestNone}
	a.info.Receipt = store.Receipt{
		Name: name, Bytes: total, StoredBytes: total, Cells: cells, Codec: "none",
		Digest: store.DigestNone, Durability: store.Durable, Created: stat.Modified.UTC(),
	}
	return a, nil
}

// servedCell is the cell in which the array is served: its chunk where that has a handy size, else a part or several of it.
func servedCell(z *array.ZarrArray) array.Shape {
	item := z.DType.ItemSize()
	bytes, _ := z.Cell.Bytes(item)
	switch {
	case bytes > store.MaxCellBytes:
		return array.DefaultCell(z.Cell, z.Order, item, 0)
	case bytes >= smallForeign || len(z.Cell) == 0:
		return append(array.Shape{}, z.Cell...)
	}
	// Whole chunks, more of them from the innermost axis on.
	order := z.Order
	if order == nil {
		order = array.COrder(len(z.Cell))
	}
	cell := append(array.Shape{}, z.Cell...)
	for k := len(order) - 1; k >= 0 && bytes < smallForeign; k-- {
		axis := order[k]
		have := max(1, (z.Shape[axis]+z.Cell[axis]-1)/z.Cell[axis])
		n := min(have, max(1, (1<<20)/max(bytes, 1)))
		cell[axis] *= n
		bytes *= n
	}
	return cell
}

// Info describes the array.
func (a *foreignArray) Info() *store.Info { return &a.info }

// Cell returns the length of a cell; nothing is recorded of it.
func (a *foreignArray) Cell(index int) (store.Cell, int, error) {
	if index < 0 || index >= a.grid.Len() {
		return store.Cell{}, 0, opError("read", a.info.Name, fmt.Errorf("%w: cell %d of %d", store.ErrInvalid, index, a.grid.Len()))
	}
	return store.Cell{Index: index, Source: index}, a.size, nil
}

// Read makes a cell of the chunks that it touches.
func (a *foreignArray) Read(ctx context.Context, index int, dst []byte) error {
	if _, _, err := a.Cell(index); err != nil {
		return err
	}
	if len(dst) != a.size {
		return opError("read", a.info.Name, fmt.Errorf("%w: cell %d has %d bytes and the buffer %d", store.ErrInvalid, index, a.size, len(dst)))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return opError("read", a.info.Name, a.read(ctx, index, dst))
}

func (a *foreignArray) read(ctx context.Context, index int, dst []byte) error {
	clear(dst)
	z := a.zarr
	part := a.grid.Region(index)
	chunks, err := array.NewGrid(z.Shape, z.Cell, nil)
	if err != nil {
		return err
	}
	cell := array.Box{Shape: a.grid.Cell(), Order: z.Order, Data: dst}
	for _, run := range chunks.TouchedBy(part) {
		for i := int(run[0]); i < int(run[0]+run[1]); i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			whole := chunks.Region(i)
			if err := a.load(whole.Start); err != nil {
				return err
			}
			common := whole.Intersect(part)
			to, from := make(array.Shape, len(z.Shape)), make(array.Shape, len(z.Shape))
			for axis, at := range common.Start {
				to[axis], from[axis] = at-part.Start[axis], at-whole.Start[axis]
			}
			array.CopyRegion(cell, to, a.chunk, from, common.Count, a.item)
		}
	}
	if a.packs {
		a.packing.Pack(dst, bytes.Clone(dst))
	}
	return nil
}

// load makes a.chunk the chunk, or inner chunk of a shard, that begins at the element.
func (a *foreignArray) load(start array.Shape) error {
	z := a.zarr
	files := z.Cell
	if z.ShardShape != nil {
		files = z.ShardShape
	}
	at := make(array.Shape, len(start))
	inner := make(array.Shape, len(start))
	for axis, n := range start {
		at[axis] = n / files[axis]
		inner[axis] = n % files[axis] / z.Cell[axis]
	}
	key := a.key(at)
	which := key
	if z.ShardShape != nil {
		which += inner.String()
	}
	if a.of == which {
		return nil
	}
	a.of = ""
	raw, err := a.stored(key, inner)
	size, _ := z.Cell.Bytes(a.item)
	if cap(a.chunk.Data) < size {
		a.chunk.Data = make([]byte, size)
	}
	a.chunk = array.Box{Shape: z.Cell, Order: z.Order, Data: a.chunk.Data[:size]}
	switch {
	case err != nil:
		return err
	case raw == nil:
		item, err := z.FillBytes()
		if err != nil {
			return err
		}
		for n := 0; n < size; n += len(item) {
			copy(a.chunk.Data[n:], item)
		}
	default:
		if err := decodeForeign(a.chunk.Data, raw, z.Codecs); err != nil {
			return fmt.Errorf("%w: chunk %s: %w", store.ErrIntegrity, which, err)
		}
	}
	a.of = which
	return nil
}

// key is the name of a file of chunks.
func (a *foreignArray) key(at array.Shape) string {
	key := "c"
	if a.zarr.V2Keys {
		if key = ""; len(at) == 0 {
			return "0"
		}
	}
	for _, n := range at {
		if key != "" {
			key += string(a.zarr.Separator)
		}
		key += strconv.Itoa(n)
	}
	return key
}

// stored returns the stored bytes of a chunk, nil when it is missing.
func (a *foreignArray) stored(key string, inner array.Shape) ([]byte, error) {
	f, err := a.s.fs.OpenFile(a.path+"/"+key, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	span := array.CellSpan{Length: size}
	if a.zarr.ShardShape != nil {
		if span, err = a.shard.find(a, f, key, size, inner); err != nil || span.Missing {
			return nil, err
		}
	}
	if span.Length > maxForeignChunk+64<<10 {
		return nil, fmt.Errorf("%w: chunk %s of %d bytes", store.ErrInvalid, key, span.Length)
	}
	raw := make([]byte, span.Length)
	if _, err := f.ReadAt(raw, span.Offset); err != nil && !(err == io.EOF && len(raw) == 0) {
		return nil, fmt.Errorf("%w: chunk %s: %w", store.ErrIntegrity, key, err)
	}
	return raw, nil
}

// shardIndex is the index of one shard.
type shardIndex struct {
	key   string
	grid  array.Grid
	spans []array.CellSpan
}

// find returns where an inner chunk lies in a shard of size bytes.
func (x *shardIndex) find(a *foreignArray, f File, key string, size int64, inner array.Shape) (array.CellSpan, error) {
	z := a.zarr
	if x.key != key || x.spans == nil {
		x.spans = nil
		grid, err := array.NewGrid(z.ShardShape, z.Cell, nil)
		if err != nil {
			return array.CellSpan{}, err
		}
		length := int64(array.ShardIndexSize(grid.Len()))
		if !z.IndexCRC {
			length -= crc32.Size
		}
		off := size - length
		if z.IndexAtStart {
			off = 0
		}
		if size < length {
			return array.CellSpan{}, fmt.Errorf("%w: shard %s of %d bytes has no room for its index", store.ErrIntegrity, key, size)
		}
		raw := make([]byte, length)
		if _, err := f.ReadAt(raw, off); err != nil {
			return array.CellSpan{}, fmt.Errorf("%w: shard %s: %w", store.ErrIntegrity, key, err)
		}
		if !z.IndexCRC {
			raw = array.AppendCRC32C(raw)
		}
		if x.spans, err = array.ParseShardIndex(raw, grid, size); err != nil {
			return array.CellSpan{}, fmt.Errorf("%w: shard %s: %w", store.ErrIntegrity, key, err)
		}
		x.key, x.grid = key, grid
	}
	return x.spans[x.grid.Index(inner)], nil
}

// Verify decodes everything: nothing was recorded that it could be compared with.
func (a *foreignArray) Verify(ctx context.Context, progress func(cells int, bytes int64), problem func(store.Problem)) error {
	buf := make([]byte, a.size)
	for i := range a.grid.Len() {
		err := a.Read(ctx, i, buf)
		switch {
		case ctx.Err() != nil:
			return opError("verify", a.info.Name, ctx.Err())
		case err != nil:
			problem(store.Problem{File: a.path, Cell: i, Text: err.Error()})
		}
		if progress != nil {
			progress(i+1, int64(i+1)*int64(a.size))
		}
	}
	return nil
}

// Close releases the array.
func (a *foreignArray) Close() error { return nil }
