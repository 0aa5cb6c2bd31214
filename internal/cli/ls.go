package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ndferry/client"
)

// listInfo is the JSON of ndferry ls.
type listInfo struct {
	Arrays []entryInfo `json:"arrays"`
}

type entryInfo struct {
	Name        string    `json:"name"`
	DType       string    `json:"dtype"` // as NumPy writes it: <f8
	Shape       []int     `json:"shape"`
	Bytes       int64     `json:"bytes"`
	StoredBytes int64     `json:"stored_bytes"`
	Created     time.Time `json:"created"`
	Digest      string    `json:"digest,omitzero"` // none: written by another program, nothing was recorded to check it with
}

func newLsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List arrays",
		Long: `List the arrays whose names begin with PREFIX, which is a plain string: run/1
finds run/1, run/12 and run/1/a. The columns are name, dtype, shape and size;
of an array that another program wrote into the store a last one says that it
has no stored checks.`,
		Example: "  ndferry ls\n  ndferry ls lab/\n  ndferry ls --json | jq -r '.arrays[].name'",
		Args:    arguments(0, 1),
	}
	conn := addClientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		prefix := ""
		if len(args) > 0 {
			prefix = args[0]
		}
		return conn.connected(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			entries, err := c.List(ctx, prefix)
			if err != nil {
				return err
			}
			return a.printList(entries)
		})
	}
	return cmd
}

func (a *app) printList(entries []client.Entry) error {
	list := listInfo{Arrays: make([]entryInfo, len(entries))}
	for i, e := range entries {
		list.Arrays[i] = entryInfo{Name: e.Name, DType: e.DType, Shape: notNil(e.Shape), Bytes: e.Bytes, StoredBytes: e.StoredBytes, Created: e.Created, Digest: e.Digest}
	}
	return a.printResult(list, func(w io.Writer) error {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, e := range entries {
			note := ""
			if e.Digest == client.Unchecked {
				note = "\tno stored checks"
			}
			fmt.Fprintf(table, "%s\t%s\t%v\t%s%s\n", e.Name, e.DType, e.Shape, formatSize(e.Bytes), note)
		}
		return table.Flush()
	})
}
