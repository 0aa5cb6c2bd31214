package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
	"ndferry/wire"
)

// Cells that need not travel, spec/WIRE.md §5.8: those of a constant array, which are its fill value, and those that repeat others in an
// array with steps of 0.

// leastSparse is the size in bytes below which an array is always sent whole: then it can be mapped.
const leastSparse = 64 << 10

// repeat says that count cells from first on are like those from source on.
type repeat struct{ first, count, source int }

// sparse finds at the first attempt what of the upload need not travel to this server. What is taken up must be described alike.
func (c *Client) sparse(u *upload) error {
	if u.planned {
		return nil
	}
	u.planned = true
	takes := func(feature string) bool { return slices.Contains(c.peer.Features, feature) }
	if !takes(wire.FeatureFill) && !takes(wire.FeatureAlias) {
		return nil
	}
	from := u.src
	if p, ok := from.(*packedSource); ok {
		from = p.Source
	}
	dtype, shape, order := from.Describe()
	if n, err := shape.Bytes(u.meta.DType.ItemSize()); err != nil || n < leastSparse {
		return err
	}
	if takes(wire.FeatureFill) {
		item, err := constantOf(from)
		if err != nil {
			return boundary{fmt.Errorf("look whether the array is constant: %w", err)}
		}
		if item != nil {
			stored := make([]byte, u.meta.DType.ItemSize())
			dtype.Packing().Pack(stored, item)
			if fill, ok := array.FillOf(u.meta.DType, stored); ok {
				u.fill, u.meta.Fill, u.msg.Sparse = stored, fill, true
				return u.describe()
			}
		}
	}
	view, ok := from.(*View)
	if !ok || !takes(wire.FeatureAlias) || !slices.Contains(view.repeated(), true) {
		return nil
	}
	return u.planRepeats(view.repeated(), order)
}

// describe writes the description of the array into the PUT.
func (u *upload) describe() error {
	text, err := u.meta.AppendWire(nil)
	if err != nil {
		return boundary{err}
	}
	u.msg.Array = jsontext.Value(text)
	return nil
}

// constantOf returns the element, in NumPy's layout, of which the whole source is made; nil when there is none, or when the source cannot be
// looked at before its cells. It reads up to the first difference.
func constantOf(src Source) ([]byte, error) {
	dtype, shape, _ := src.Describe()
	item := dtype.ItemSize()
	size, err := shape.Bytes(item)
	if err != nil || size == 0 {
		return nil, err
	}
	switch s := src.(type) {
	case *View:
		for axis, n := range s.Shape {
			if n > 1 && s.Strides[axis] != 0 {
				return nil, nil
			}
		}
		return s.Data[s.Offset:][:item], nil
	case *Array:
		if !bytes.Equal(s.Data[item:], s.Data[:size-item]) {
			return nil, nil
		}
		return s.Data[:item], nil
	}
	s := samplerOf(src)
	if s == nil {
		return nil, nil
	}
	first := make([]byte, item)
	piece := bytes.Repeat(first, max(1, min(size, 1<<20)/item))
	if err := s.Sample(first, 0); err != nil {
		return nil, err
	}
	if err := s.Sample(piece[:item], int64(size-item)); err != nil || !bytes.Equal(piece[:item], first) {
		return nil, err
	}
	for at := 0; at < size; at += len(piece) {
		part := piece[:min(len(piece), size-at)]
		if err := s.Sample(part, int64(at)); err != nil {
			return nil, err
		}
		if !bytes.Equal(part[:item], first) || !bytes.Equal(part[item:], part[:len(part)-item]) {
			return nil, nil
		}
	}
	return first, nil
}

// samplerOf is the source as one that can be looked at anywhere, or nil.
func samplerOf(src Source) Sampler {
	if r, ok := src.(retyped); ok {
		return samplerOf(r.Source)
	}
	s, _ := src.(Sampler)
	return s
}

// planRepeats cuts an array, of which some axes repeat and are outermost in the order, into cells such that repeats are whole cells, unless
// the user has given a grid, and notes which are.
func (u *upload) planRepeats(repeated []bool, order array.Order) error {
	axes := 0
	for k := 0; k < len(order) && (repeated[order[k]] || u.meta.Shape[order[k]] == 1); k++ {
		axes = k + 1
	}
	distinct := u.meta.DType.ItemSize()
	inner := slices.Clone(u.meta.Shape)
	for axis, again := range repeated {
		if again {
			inner[axis] = 1
		}
		distinct *= inner[axis]
	}
	if u.opts.Cell == nil && distinct >= leastSparse {
		target := u.opts.ChunkBytes
		if target == 0 {
			target = DefaultChunk
		}
		u.opts.Leaves = nil // of another grid
		u.meta.Cell = array.DefaultCell(inner, order, u.meta.DType.ItemSize(), target)
		if err := u.cut(); err != nil {
			return boundary{err}
		}
	}
	if u.repeats = repeatsOf(u.grid, axes); len(u.repeats) == 0 {
		return nil
	}
	u.msg.Sparse = true
	return u.describe()
}

// repeatsOf returns the cells that repeat others in a grid of which the first axes of the stored order repeat: a cell that is cut at the
// edge is like another that is cut as well.
func repeatsOf(g array.Grid, axes int) []repeat {
	inner, outer := 1, 1
	counts, order := g.Counts(), g.Order()
	for k, axis := range order {
		if k < axes {
			outer *= counts[axis]
		} else {
			inner *= counts[axis]
		}
	}
	seen := map[string]int{} // by the shape of what lies inside of the array
	var found []repeat
	kinds := make([]string, 0, outer)
	for n := range outer {
		count := g.Region(n * inner).Count
		kind := make([]byte, 0, 8*axes)
		for _, axis := range order[:axes] {
			kind = binary.LittleEndian.AppendUint64(kind, uint64(count[axis]))
		}
		kinds = append(kinds, string(kind))
		first, again := seen[string(kind)]
		if !again {
			seen[string(kind)] = n
			continue
		}
		if l := len(found) - 1; l >= 0 {
			r := &found[l]
			next := (r.source + r.count) / inner
			if (r.first+r.count)/inner == n && kinds[next] == kinds[n] {
				r.count += inner
				continue
			}
		}
		found = append(found, repeat{n * inner, inner, first * inner})
	}
	return found
}

// stands tells that cell i is not sent: it is said to be like another, or the fill value.
func (u *upload) stands(i int) bool {
	if u.fill != nil {
		return true
	}
	k, found := slices.BinarySearchFunc(u.repeats, i, func(r repeat, i int) int { return r.first - i })
	return found || k > 0 && i < u.repeats[k-1].first+u.repeats[k-1].count
}

// sendRepeats says which cells are like others, or the fill value, when all others are sent.
func (c *Client) sendRepeats(u *upload) error {
	if total := int64(u.grid.Len()) * int64(u.size); u.msg.Sparse && u.opts.Progress != nil {
		u.opts.Progress(total, total)
	}
	if u.fill != nil {
		u.fillLeaves()
		return c.sendRuns(u, wire.Fill, repeat{count: u.grid.Len()})
	}
	for _, r := range u.repeats {
		if u.leaves != nil {
			for k := range r.count {
				u.noteLeaf(r.first+k, u.leaves[r.source+k])
			}
		}
		if err := c.sendRuns(u, wire.Alias, r); err != nil {
			return err
		}
	}
	return nil
}

// sendRuns sends an ALIAS or FILL for each run of the cells that the server does not have.
func (c *Client) sendRuns(u *upload, kind wire.Kind, r repeat) error {
	for at := 0; at < r.count; {
		if u.accepted(r.first + at) {
			at++
			continue
		}
		n := 1
		for at+n < r.count && !u.accepted(r.first+at+n) {
			n++
		}
		var payload []byte
		if kind == wire.Alias {
			payload = binary.LittleEndian.AppendUint64(nil, uint64(r.source+at))
		}
		h := wire.Header{Kind: kind, Flags: wire.Critical, Stream: c.stream, Index: uint64(r.first + at), Raw: uint32(n)}
		c.out = wire.AppendFrame(c.out, h, payload)
		if len(c.out) > wire.MaxControl {
			if err := c.flush(); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}

// fillLeaves makes the leaves of a constant array.
func (u *upload) fillLeaves() {
	if u.leaves == nil {
		return
	}
	known := map[string][32]byte{} // by what lies inside of the array
	cell := make([]byte, u.size)
	for i := range u.leaves {
		part := u.grid.Region(i).Count.String()
		leaf, ok := known[part]
		if !ok {
			u.grid.Fill(cell, i, u.fill)
			leaf = sha256.Sum256(cell)
			known[part] = leaf
		}
		u.noteLeaf(i, leaf)
	}
}
