package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ndferry/internal/control"
)

func newStatusCmd(a *app) *cobra.Command {
	var socket controlValue
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the server of this machine does",
		Long: `Ask the server on this machine, over its control socket, how it does: where it
listens, its connections, its worker processes with their pids, generations,
restarts and load, what was dispatched to each, and how long a connection
waited from its accept to the first read (p50 and p99).

Only the user that runs the server, and root, may ask.`,
		Example: "  ndferry status\n  ndferry status --json --control /run/arrays/control.sock",
		Args:    arguments(0, 0),
	}
	addControlFlag(cmd, &socket)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		path, _ := socket.path(a)
		var s serverStatus
		err := control.Ask(cmd.Context(), path, "status", &s)
		if errors.Is(err, fs.ErrNotExist) {
			err = &ExitError{Code: ExitNoServer, Err: fmt.Errorf("status: no server has its control socket at %s: %w", path, err)}
		}
		if err != nil {
			return err
		}
		return a.printResult(s, func(w io.Writer) error { return s.write(w, a.now()) })
	}
	return cmd
}

// write writes a status for people.
func (s *serverStatus) write(w io.Writer, now time.Time) error {
	fmt.Fprintf(w, "%s, pid %d, serves %s on %s for %v\n", s.Software, s.PID, s.Store, strings.Join(s.Listen, ", "), age(now, s.Since))
	fmt.Fprintf(w, "connections %d, accepted %d\n", s.Connections, s.Accepted)
	if len(s.Workers) == 0 {
		_, err := fmt.Fprintln(w, "no workers: this process serves")
		return err
	}
	fmt.Fprintf(w, "dispatch %s: offered %d, redispatched %d (revoked %d, refused %d), returned %d, cut %d, waiting %d; p50 %s, p99 %s\n",
		s.Dispatch, s.Offered, s.Redispatched, s.Revoked, s.Refused, s.Returned, s.Cut, s.Waiting,
		seconds(time.Duration(s.P50*1e9)), seconds(time.Duration(s.P99*1e9)))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "worker\tpid\tgeneration\tstate\tconnections\tload\toffered\ttaken\trefused\trevoked\treturned\tcut\trestarts\t")
	for _, k := range s.Workers {
		fmt.Fprintf(t, "%d\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", k.Worker, k.PID, k.Generation, k.State, k.Connections, k.Load,
			k.Offered, k.Taken, k.Refused, k.Revoked, k.Returned, k.Cut, k.Restarts)
	}
	return t.Flush()
}
