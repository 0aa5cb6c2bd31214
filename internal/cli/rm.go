package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ndferry/client"
)

// removedInfo is the JSON of ndferry rm.
type removedInfo struct {
	Removed []string `json:"removed"`
}

func newRmCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rm NAME...",
		Short:   "Remove arrays",
		Long:    `Remove arrays. When one of several cannot be removed the others are, and the exit code is 6.`,
		Example: "  ndferry rm lab/run7\n  ndferry rm lab/run7 lab/run8",
		Args:    arguments(1, anyNumber),
	}
	conn := addClientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.connected(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			info := removedInfo{Removed: []string{}}
			err := a.each(cmd, c, args, func(name string) error {
				err := c.Delete(ctx, name)
				if err == nil {
					info.Removed = append(info.Removed, name)
				}
				return err
			})
			if printErr := a.printResult(info, func(w io.Writer) error { return printLines(w, "removed", info.Removed) }); printErr != nil {
				return printErr
			}
			return err
		})
	}
	return cmd
}

func printLines(w io.Writer, verb string, names []string) error {
	for _, name := range names {
		if _, err := fmt.Fprintf(w, "%s %s\n", verb, name); err != nil {
			return err
		}
	}
	return nil
}
