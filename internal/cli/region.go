package cli

import (
	"context"
	"fmt"
	"io"

	"ndferry/array"
	"ndferry/client"
)

// getRegion fetches a region of an array into a .npy file, or standard output for "-".
func (a *app) getRegion(ctx context.Context, conn *clientFlags, name, file, text string, force bool) error {
	begin := a.now()
	if file == "-" && terminal(a.stdout) != nil {
		return usageErrorf("get: standard output is a terminal; redirect it or name a file")
	}
	var shape array.Shape
	var part *client.Array
	var of *client.Stat
	err := conn.connected(ctx, func(ctx context.Context, c *client.Client) (err error) {
		if of, err = c.Stat(ctx, name); err != nil {
			return err
		}
		part, err = c.ReadRegion(ctx, name, func(whole array.Shape) (r array.Region, err error) {
			r, shape, err = array.ParseRegion(text, whole)
			return r, err
		}, nil)
		return err
	})
	if err != nil {
		return err
	}
	grid, err := array.NewGrid(shape, max1(shape), nil)
	if err != nil {
		return err
	}
	st := &client.Stat{Name: name, DType: part.DType, Shape: shape, Bytes: int64(len(part.Data)), Digest: of.Digest}
	a.noteUnchecked(st)
	a.noteNPYType(st.DType)
	if file == "-" {
		w := client.NPYWriter{W: a.stdout}
		return writeWhole(&w, st, grid, part.Data)
	}
	sink, err := client.CreateNPY(file, force)
	if err != nil {
		return forceAdvice(err, force)
	}
	defer sink.Close()
	if err := writeWhole(sink, st, grid, part.Data); err != nil {
		return err
	}
	if err := sink.Commit(); err != nil {
		return forceAdvice(err, force)
	}
	took := a.now().Sub(begin)
	info := getInfo{Name: name, File: file, DType: st.DType.Name(), Shape: notNil(shape), Bytes: st.Bytes, Digest: st.Digest, Seconds: took.Seconds()}
	return a.printResult(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s %v, %s, %s\n", info.File, info.DType, shape, formatSize(st.Bytes), seconds(took))
		return err
	})
}

// writeWhole gives a sink an array that is one cell.
func writeWhole(sink client.Sink, st *client.Stat, grid array.Grid, data []byte) error {
	if err := sink.Begin(st, grid); err != nil || grid.Len() == 0 {
		return err
	}
	return sink.Cell(0, data)
}

func max1(shape array.Shape) array.Shape {
	cell := make(array.Shape, len(shape))
	for i, n := range shape {
		cell[i] = max(n, 1)
	}
	return cell
}

// noteNPYType says what a .npy file cannot say of a type.
func (a *app) noteNPYType(d array.DType) {
	if npy, exact := d.NPYType(); !exact {
		fmt.Fprintf(a.stderr, "ndferry: a .npy file cannot say %v: the file says %v, same bytes; put --dtype gives the type back\n", d.Name(), npy)
	}
}
