package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"ndferry/array"
	"ndferry/client"
)

// statInfo is the JSON of ndferry stat.
type statInfo struct {
	Name        string         `json:"name"`
	ID          string         `json:"id"`
	DType       string         `json:"dtype"` // as NumPy writes it: <f8
	Shape       []int          `json:"shape"`
	Order       []int          `json:"order"` // of the axes in memory, outermost first
	Chunks      []int          `json:"chunks"`
	ChunkCount  int            `json:"chunk_count"`
	Codec       string         `json:"codec"`
	CodecWhy    string         `json:"codec_why,omitzero"`
	Ratio       float64        `json:"ratio"` // raw bytes over stored ones
	Validated   string         `json:"validated"`
	Bytes       int64          `json:"bytes"`
	StoredBytes int64          `json:"stored_bytes"`
	Digest      string         `json:"digest"`
	Root        string         `json:"root,omitzero"`
	Durability  string         `json:"durability"`
	Created     time.Time      `json:"created"`
	Dims        []*string      `json:"dims"` // names of the axes; null for one without
	Attributes  jsontext.Value `json:"attributes"`
}

func newStatCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "stat NAME",
		Short:   "Describe an array",
		Example: "  ndferry stat lab/run7\n  ndferry stat lab/run7 --json | jq .attributes",
		Args:    arguments(1, 1),
	}
	conn := addClientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.connected(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			st, err := c.Stat(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printStat(st)
		})
	}
	return cmd
}

func (a *app) printStat(st *client.Stat) error {
	info := statInfo{
		Name: st.Name, ID: st.ID.String(), DType: st.DType.String(), Shape: notNil(st.Shape), Order: notNil(st.Order),
		Chunks: notNil(st.Chunks), ChunkCount: st.Cells, Codec: st.Codec, Bytes: st.Bytes, StoredBytes: st.StoredBytes,
		CodecWhy: st.CodecWhy, Ratio: ratio(st.Bytes, st.StoredBytes), Validated: st.Validated, Digest: st.Digest, Root: st.Root, Durability: st.Durability, Created: st.Created,
		Attributes: slices.Clone(jsontext.Value(st.Attributes)),
	}
	info.Dims = make([]*string, len(st.DimNames))
	for i, dim := range st.DimNames {
		if !dim.Null {
			info.Dims[i] = new(dim.Name)
		}
	}
	if len(info.Attributes) == 0 {
		info.Attributes = jsontext.Value("{}")
	}
	return a.printResult(info, func(w io.Writer) error {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		row := func(key, format string, args ...any) {
			fmt.Fprintf(table, "%s\t%s\n", key, fmt.Sprintf(format, args...))
		}
		row("name", "%s", info.Name)
		row("dtype", "%s (%s)", st.DType.Name(), info.DType)
		row("shape", "%v", st.Shape)
		row("order", "%s", orderText(st.Order))
		row("chunks", "%d of %v", info.ChunkCount, st.Chunks)
		row("size", "%s (%d bytes), %s stored", formatSize(info.Bytes), info.Bytes, formatSize(info.StoredBytes))
		row("codec", "%s", codecText(info.Codec, info.CodecWhy, info.Ratio))
		if info.Validated != "full" {
			row("validated", "%s", info.Validated)
		}
		row("digest", "%s", digestText(info.Digest))
		if info.Root != "" {
			row("root", "%s", info.Root)
		}
		row("durability", "%s", info.Durability)
		row("created", "%s", info.Created.UTC().Format(time.RFC3339))
		row("id", "%s", info.ID)
		row("dims", "%s", dimsText(st.DimNames))
		row("attributes", "%s", info.Attributes)
		return table.Flush()
	})
}

// dimsText is the names of the axes, as --dims takes them.
func dimsText(dims []array.DimName) string {
	names := make([]string, len(dims))
	for i, dim := range dims {
		names[i] = dim.Name
	}
	return strings.Join(names, ",")
}

func digestText(kind string) string {
	if kind == client.Unchecked {
		return "none: another program wrote it, and there are no stored checks"
	}
	return kind
}

// orderText names the memory order as NumPy does.
func orderText(order array.Order) string {
	switch {
	case order.IsC():
		return "C"
	case order.IsF():
		return "F"
	}
	return fmt.Sprint([]int(order))
}
