package mem

import (
	"context"
	"fmt"
	"hash/crc32"
	"sync/atomic"

	"ndferry/array"
	"ndferry/store"
)

var (
	_ store.Array  = (*handle)(nil)
	_ store.Viewer = (*handle)(nil)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// memArray is an array, or one in the making. Once it is committed only refs changes.
type memArray struct {
	s     *Store
	info  store.Info
	grid  array.Grid
	cells int
	fixed int // bytes of every cell of codec none, else 0

	refs   int // guarded by Store.mu: the name, and everybody who has it open
	size   int64
	region *region  // nil for small arrays
	mem    []byte   // the cells one after the other, with fixed
	parts  [][]byte // the cells, without

	crc  []uint32
	leaf [][32]byte // nil without DigestSHA256
}

func (a *memArray) cell(i int) []byte {
	if a.fixed == 0 {
		return a.parts[i]
	}
	return a.mem[i*a.fixed : (i+1)*a.fixed : (i+1)*a.fixed]
}

// handle is an array that somebody has open.
type handle struct {
	*memArray
	closed atomic.Bool
}

// Info describes the array.
func (h *handle) Info() *store.Info { return &h.info }

// Cell returns what is recorded of a cell.
func (h *handle) Cell(index int) (store.Cell, int, error) {
	if index < 0 || index >= h.cells {
		return store.Cell{}, 0, opError("read", h.info.Name, fmt.Errorf("%w: cell %d of %d", store.ErrInvalid, index, h.cells))
	}
	c := store.Cell{Index: index, CRC: h.crc[index]}
	if h.leaf != nil {
		c.Leaf = h.leaf[index]
	}
	return c, len(h.cell(index)), nil
}

// Read copies the stored bytes of a cell.
func (h *handle) Read(ctx context.Context, index int, dst []byte) error {
	if err := ctx.Err(); err != nil {
		return opError("read", h.info.Name, err)
	}
	_, length, err := h.Cell(index)
	if err != nil {
		return err
	}
	if len(dst) != length {
		return opError("read", h.info.Name, fmt.Errorf("%w: cell %d has %d bytes and the buffer %d", store.ErrInvalid, index, length, len(dst)))
	}
	copy(dst, h.cell(index))
	return nil
}

// View returns the stored bytes of a cell, where they are.
func (h *handle) View(index int) []byte { return h.cell(index) }

// Verify checks every cell and the root.
func (h *handle) Verify(ctx context.Context, progress func(cells int, bytes int64), problem func(store.Problem)) error {
	root := h.info.Meta.NewRoot()
	check, err := store.NewCellCheck(&h.info.Spec)
	if err != nil {
		return opError("verify", h.info.Name, err)
	}
	var bytes int64
	for i := range h.cells {
		if err := ctx.Err(); err != nil {
			return opError("verify", h.info.Name, err)
		}
		data := h.cell(i)
		if crc := crc32.Checksum(data, castagnoli); crc != h.crc[i] {
			problem(store.Problem{Cell: i, Text: fmt.Sprintf("CRC32C %08x, recorded is %08x", crc, h.crc[i])})
		}
		c := store.Cell{Index: i}
		if h.leaf != nil {
			c.Leaf = h.leaf[i]
			root.Write(c.Leaf[:])
		}
		for _, text := range check.Problems(c, data) {
			problem(store.Problem{Cell: i, Text: text})
		}
		bytes += int64(len(data))
		if progress != nil {
			progress(i+1, bytes)
		}
	}
	if h.leaf != nil && [32]byte(root.Sum(nil)) != h.info.Receipt.Root {
		problem(store.Problem{Cell: -1, Text: "the leaves do not make the recorded root"})
	}
	return nil
}

// Close releases the array. Views of it end.
func (h *handle) Close() error {
	if h.closed.Swap(true) {
		return nil
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.s.releaseLocked(h.memArray)
	return nil
}
