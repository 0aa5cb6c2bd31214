package dir

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"ndferry/store"
)

// Verify checks everything of STORE.md §5. When the name has another array by now, what is left of this one is checked: the shard.
func (n *node) Verify(ctx context.Context, progress func(cells int, bytes int64), problem func(store.Problem)) error {
	v := &verification{node: n, ctx: ctx, progress: progress, problem: problem}
	if v.progress == nil {
		v.progress = func(int, int64) {}
	}
	if err := v.files(); err != nil {
		return opError("verify", n.info.Name, err)
	}
	if n.shard != nil {
		if err := v.shard(); err != nil {
			return opError("verify", n.info.Name, err)
		}
	}
	return opError("verify", n.info.Name, v.cells())
}

type verification struct {
	*node
	ctx      context.Context
	progress func(cells int, bytes int64)
	problem  func(store.Problem)
}

func (v *verification) report(file string, cell int, format string, args ...any) {
	v.problem(store.Problem{File: file, Cell: cell, Text: fmt.Sprintf(format, args...)})
}

// reportDamage turns an error about content into a problem, and returns every other one.
func (v *verification) reportDamage(err error) error {
	var d *damage
	if errors.As(err, &d) {
		v.report(d.file, -1, "%s at offset %d", d.text, d.off)
		return nil
	}
	return err
}

// files checks sidecar, zarr.json and that there is nothing else, as long as the node is at its name.
func (v *verification) files() error {
	if err := v.s.visible.rlock(); err != nil {
		return err
	}
	defer v.s.visible.runlock()
	side, err := v.s.readSidecar(v.path, readCommitted)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return v.reportDamage(err)
	case side.spec.ID != v.info.ID:
		return nil
	}
	if err := v.reportDamage(v.checkZarrJSON()); err != nil {
		return err
	}
	entries, err := v.s.fs.ReadDir(v.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name != sidecarName && e.Name != zarrJSON && (e.Name != v.side.layout.key || e.Dir) {
			v.report(v.path+"/"+e.Name, -1, "it does not belong to the array")
		}
	}
	return nil
}

// shard checks the shard's size and index.
func (v *verification) shard() error {
	size, err := v.node.shard.Size()
	if err != nil {
		return err
	}
	if size != v.side.commit.ShardSize {
		v.report(v.shardFile(), -1, "%d bytes, %d were written", size, v.side.commit.ShardSize)
	}
	off := v.side.commit.ShardSize - v.side.layout.indexSize()
	var have []byte
	at := 0
	crc, err := v.side.layout.eachIndexBlock(v.side.table.span, func(want []byte) error {
		have = append(have[:0], want...)
		if _, err := v.node.shard.ReadAt(have, off); err != nil && !lost(err) {
			return err
		} else if err != nil {
			v.report(v.shardFile(), -1, "the index cannot be read at offset %d: %v", off, err)
		}
		for i := 0; i+indexEntry <= len(want); i += indexEntry {
			if string(have[i:i+indexEntry]) != string(want[i:i+indexEntry]) {
				v.report(v.shardFile(), v.side.layout.grid.StoredIndex(at+i/indexEntry), "its entry in the index is not the recorded one")
			}
		}
		if tail := len(want) % indexEntry; tail > 0 && string(have[len(want)-tail:]) != string(want[len(want)-tail:]) {
			v.report(v.shardFile(), -1, "wrong CRC of the index")
		}
		at += len(want) / indexEntry
		off += int64(len(want))
		return v.ctx.Err()
	})
	if err == nil && crc != v.side.commit.IndexCRC {
		v.report(v.path+"/"+sidecarName, -1, "COMMIT records another CRC of the index")
	}
	return err
}

// cells checks every cell and the root.
func (v *verification) cells() error {
	root := v.info.Meta.NewRoot()
	check, err := store.NewCellCheck(&v.info.Spec)
	if err != nil {
		return err
	}
	buf := make([]byte, v.side.layout.stored)
	var bytes int64
	for i := range v.side.table.n {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		e := v.side.table.get(i)
		data := buf[:e.length]
		if e.length == 0 {
			// The fill value: there are no bytes to check.
		} else if err := v.read(i, data); err != nil && !lost(err) {
			return err
		} else if err != nil {
			v.report(v.shardFile(), i, "it cannot be read: %v", err)
		} else if text := v.check(check, e, data); text != "" {
			v.report(v.shardFile(), i, "%s", text)
		}
		root.Write(e.cell.Leaf[:])
		bytes += int64(e.length)
		v.progress(i+1, bytes)
	}
	if v.info.Digest == store.DigestSHA256 && [32]byte(root.Sum(nil)) != v.info.Receipt.Root {
		v.report(v.path+"/"+sidecarName, -1, "the leaves do not make the recorded root")
	}
	return nil
}

// lost tells that bytes cannot be read because they are not there or the disk has lost them, not because checking failed.
func lost(err error) bool {
	return errors.Is(err, store.ErrIntegrity) || errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO)
}

// check returns what is wrong with the bytes of a cell.
func (v *verification) check(check *store.CellCheck, e entry, data []byte) string {
	var wrong []string
	if crc := crc32.Checksum(data, castagnoli); crc != e.cell.CRC {
		wrong = append(wrong, fmt.Sprintf("CRC32C %08x, recorded is %08x", crc, e.cell.CRC))
	}
	return strings.Join(append(wrong, check.Problems(e.cell, data)...), "; ")
}
