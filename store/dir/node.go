package dir

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"ndferry/store"
)

var _ store.Array = (*node)(nil)

// node is a committed array, open for reading. It has one descriptor, of the shard, so it stays readable when its files are renamed or
// removed. It is immutable.
type node struct {
	s     *Store
	path  string
	side  *sidecar
	info  store.Info
	shard File // nil when the array has no cells
}

// Open returns a committed array for reading; see store.Store. Sidecar and zarr.json are checked whole: ErrIntegrity names the
// file and the offset of what is wrong. An array that another program wrote is decoded and cut anew; DigestNone says that
// nothing was recorded of it.
func (s *Store) Open(ctx context.Context, name string) (store.Array, error) {
	if err := ctx.Err(); err != nil {
		return nil, opError("open", name, err)
	}
	if err := checkName(name); err != nil {
		return nil, opError("open", name, err)
	}
	if err := s.visible.rlock(); err != nil {
		return nil, opError("open", name, err)
	}
	kind, err := s.look(nodePath(name))
	s.visible.runlock()
	if err == nil && kind == foreign && s.isArray(name) {
		a, err := s.openForeign(name)
		if err != nil {
			return nil, opError("open", name, err)
		}
		return a, nil
	}
	n, err := s.openNode(name)
	if err != nil {
		return nil, opError("open", name, err)
	}
	return n, nil
}

func (s *Store) openNode(name string) (*node, error) {
	if err := s.visible.rlock(); err != nil {
		return nil, err
	}
	defer s.visible.runlock()
	if err := s.mustBeOurs(name); err != nil {
		return nil, err
	}
	n := &node{s: s, path: nodePath(name)}
	var err error
	if n.side, err = s.readSidecar(n.path, readCommitted); err != nil {
		return nil, err
	}
	if n.side.spec.Name != name {
		return nil, &damage{n.path + "/" + sidecarName, preambleSize, fmt.Sprintf("the node is that of %q, it was moved by other means; move it back: HEADER", n.side.spec.Name)}
	}
	if err := n.checkZarrJSON(); err != nil {
		return nil, err
	}
	if err := n.openShard(); err != nil {
		return nil, err
	}
	n.info = n.side.info()
	return n, nil
}

func (side *sidecar) info() store.Info {
	return store.Info{Spec: side.spec, Receipt: side.receipt}
}

// readSidecar reads the sidecar of the node at a path with one of the readers of sidecar.go.
func (s *Store) readSidecar(p string, read func(io.ReaderAt, string, int64) (*sidecar, error)) (*sidecar, error) {
	file := p + "/" + sidecarName
	f, err := s.fs.OpenFile(file, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return read(f, file, size)
}

// checkZarrJSON compares zarr.json with what the sidecar recorded of it.
func (n *node) checkZarrJSON() error {
	file := n.path + "/" + zarrJSON
	text, err := n.s.readFile(file, maxZarrJSON)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &damage{file, 0, "the file is missing:"}
	case err != nil:
		return err
	case int64(len(text)) != n.side.commit.ZarrSize:
		return &damage{file, min(int64(len(text)), n.side.commit.ZarrSize), fmt.Sprintf("%d bytes, %d were written: differs", len(text), n.side.commit.ZarrSize)}
	case crc32.Checksum(text, castagnoli) != n.side.commit.ZarrCRC:
		return &damage{file, 0, "wrong CRC of the file"}
	}
	return nil
}

func (n *node) shardFile() string { return n.path + "/" + n.side.layout.key }

func (n *node) openShard() error {
	if n.side.layout.key == "" {
		return nil
	}
	f, err := n.s.fs.OpenFile(n.shardFile(), false)
	if errors.Is(err, fs.ErrNotExist) {
		return &damage{n.shardFile(), 0, "the shard is missing:"}
	}
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size != n.side.commit.ShardSize {
		err = &damage{n.shardFile(), min(size, n.side.commit.ShardSize), fmt.Sprintf("%d bytes, %d were written: differs", size, n.side.commit.ShardSize)}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	n.shard = f
	return nil
}

// Info describes the array.
func (n *node) Info() *store.Info { return &n.info }

// Cell returns what is recorded of a cell.
func (n *node) Cell(index int) (store.Cell, int, error) {
	if index < 0 || index >= n.side.table.n {
		return store.Cell{}, 0, opError("read", n.info.Name, fmt.Errorf("%w: cell %d of %d", store.ErrInvalid, index, n.side.table.n))
	}
	e := n.side.table.get(index)
	return e.cell, e.length, nil
}

// Read reads the stored bytes of a cell.
func (n *node) Read(ctx context.Context, index int, dst []byte) error {
	if err := ctx.Err(); err != nil {
		return opError("read", n.info.Name, err)
	}
	_, length, err := n.Cell(index)
	if err != nil {
		return err
	}
	if len(dst) != length {
		return opError("read", n.info.Name, fmt.Errorf("%w: cell %d has %d bytes and the buffer %d", store.ErrInvalid, index, length, len(dst)))
	}
	return opError("read", n.info.Name, n.read(index, dst))
}

func (n *node) read(index int, dst []byte) error {
	e := n.side.table.get(index)
	_, err := n.shard.ReadAt(dst, e.offset)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return &damage{n.shardFile(), e.offset, fmt.Sprintf("the shard ends inside of cell %d, which lies", index)}
	}
	if err != nil {
		return fmt.Errorf("cell %d: %w", index, err)
	}
	return nil
}

// Close releases the array.
func (n *node) Close() error {
	if n.shard == nil {
		return nil
	}
	return opError("close", n.info.Name, n.shard.Close())
}
