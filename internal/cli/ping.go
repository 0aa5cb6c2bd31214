package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"ndferry/client"
)

// pingInfo is the JSON of ndferry ping.
type pingInfo struct {
	Addr          string  `json:"addr"`
	Server        string  `json:"server"`
	Count         int     `json:"count"`
	MinSeconds    float64 `json:"min_seconds"`
	MedianSeconds float64 `json:"median_seconds"`
	MaxSeconds    float64 `json:"max_seconds"`
}

// How often a server that does not answer yet is tried, and how many round trips may be asked for.
const (
	pingRetry = 50 * time.Millisecond
	maxPings  = 1_000_000
)

func newPingCmd(a *app) *cobra.Command {
	var wait time.Duration
	var count int
	cmd := &cobra.Command{
		Use:   "ping",
		Short: "See whether a server answers, and how fast",
		Long: `Connect to a server and measure round trips. With --wait it tries again until
the server answers, which makes it a probe of readiness.`,
		Example: "  ndferry ping\n  ndferry ping --wait 5s && ndferry put run7.npy",
		Args:    arguments(0, 0),
	}
	conn := addClientFlags(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "try for this long to connect")
	cmd.Flags().IntVar(&count, "count", 5, "how many round trips")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if count < 1 || count > maxPings {
			return usageErrorf("ping: --count %d: want 1 to %d", count, maxPings)
		}
		if wait < 0 {
			return usageErrorf("ping: --wait %v: want a time that is not negative", wait)
		}
		ctx, cancel, err := conn.context(cmd.Context())
		if err != nil {
			return err
		}
		defer cancel()
		c, err := conn.dialWithin(ctx, wait)
		if err != nil {
			return err
		}
		defer c.Close()
		return a.ping(ctx, c, conn.addr.String(), count)
	}
	return cmd
}

// dialWithin dials until a server answers, or fails in a way that waiting does not mend, or wait is over.
func (f *clientFlags) dialWithin(ctx context.Context, wait time.Duration) (*client.Client, error) {
	over := time.After(wait)
	for {
		c, err := f.dial(ctx)
		if err == nil || wait == 0 {
			return c, err
		}
		if code := ExitCode(err); code != ExitNoServer && code != ExitTemporary {
			return nil, err
		}
		select {
		case <-over:
			return nil, fmt.Errorf("no server within %v: %w", wait, err)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(pingRetry):
		}
	}
}

func (a *app) ping(ctx context.Context, c *client.Client, addr string, count int) error {
	times := make([]time.Duration, count)
	for i := range times {
		var err error
		if times[i], err = c.Ping(ctx); err != nil {
			return err
		}
	}
	slices.Sort(times)
	least, median, most := times[0], times[len(times)/2], times[len(times)-1]
	info := pingInfo{
		Addr: addr, Server: c.Server(), Count: count,
		MinSeconds: least.Seconds(), MedianSeconds: median.Seconds(), MaxSeconds: most.Seconds(),
	}
	return a.printResult(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s, %d round trips: least %s, median %s, most %s\n",
			addr, info.Server, count, seconds(least), seconds(median), seconds(most))
		return err
	})
}
