//go:build !linux

package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"ndferry/client"
)

// canPass tells that this system can pass connections between processes as it is done here.
const canPass = false

func (a *app) serveWorkers(context.Context, serveFlags, []client.Addr, int) error {
	return errors.ErrUnsupported
}

func (a *app) echoWorkers(context.Context, *echoConfig) error { return errors.ErrUnsupported }

// newWorkerCmd is a command that no master starts.
func newWorkerCmd(*app) *cobra.Command {
	return &cobra.Command{Use: "worker", Short: "Serve the connections that a master passes", Example: "  ndferry serve --workers 2", Hidden: true, Args: arguments(0, 0), RunE: func(*cobra.Command, []string) error {
		return errors.ErrUnsupported
	}}
}
