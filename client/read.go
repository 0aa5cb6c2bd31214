package client

import (
	"context"
	"fmt"

	"ndferry/array"
	"ndferry/wire"
)

// Read returns a region of an array, in C order: only the cells that it touches travel, and each is checked against what was
// recorded when it was stored. dst, of exactly the size of the region, gets the elements; nil means new memory.
func (c *Client) Read(ctx context.Context, name string, region array.Region, dst []byte) (*Array, error) {
	return c.ReadRegion(ctx, name, func(array.Shape) (array.Region, error) { return region, nil }, dst)
}

// ReadRegion is Read of a region that depends on the array's shape.
func (c *Client) ReadRegion(ctx context.Context, name string, choose func(array.Shape) (array.Region, error), dst []byte) (*Array, error) {
	if err := array.CheckName(name); err != nil {
		return nil, invalid("read", name, err)
	}
	st, err := c.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	region, err := choose(st.Shape)
	if err == nil {
		err = region.Check(st.Shape)
	}
	if err != nil {
		return nil, invalid("read", name, err)
	}
	r := &regionSink{id: st.ID, region: region, Array: Array{DType: st.DType, Shape: region.Count, Data: dst}}
	size, err := region.Count.Bytes(st.DType.ItemSize())
	switch {
	case err != nil:
		return nil, invalid("read", name, err)
	case dst == nil:
		r.Data = make([]byte, size)
	case len(dst) != size:
		return nil, invalid("read", name, fmt.Errorf("the memory to read into has %d bytes, the region %d", len(dst), size))
	}
	grid, err := array.NewGrid(st.Shape, st.Chunks, st.Order)
	if err != nil {
		return nil, invalid("read", name, err)
	}
	for runs := grid.TouchedBy(region); len(runs) > 0; {
		n := min(len(runs), rangesPerGet)
		err := c.call(ctx, "read", name, func() error {
			_, err := c.get(ctx, name, &download{sink: r, only: runs[:n]}, GetOptions{})
			return err
		})
		if err != nil {
			return nil, err
		}
		runs = runs[n:]
	}
	return &r.Array, nil
}

// rangesPerGet keeps a GET of ranges of large numbers below wire.MaxControl.
const rangesPerGet = min(wire.MaxRanges, 2500)

// regionSink puts cells of an array where a region of it has them.
type regionSink struct {
	Array
	id     wire.ID
	region array.Region
	grid   array.Grid
}

// Begin implements Sink.
func (r *regionSink) Begin(st *Stat, g array.Grid) error {
	if st.ID != r.id || !st.Shape.Equal(g.Shape()) {
		return fmt.Errorf("the array was replaced while it was read; read again")
	}
	r.grid = g
	return r.region.Check(st.Shape)
}

// Place implements Sink: cells come through memory of the client's.
func (r *regionSink) Place(int) []byte { return nil }

// Cell implements Sink.
func (r *regionSink) Cell(i int, data []byte) error {
	r.grid.ScatterRegion(r.Data, r.region, data, i)
	return nil
}
