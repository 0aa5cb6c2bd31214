package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ndferry/client"
)

// clientFlags are what every command that speaks to a server takes.
type clientFlags struct {
	addr     *client.Addr
	timeout  time.Duration
	deadline time.Duration
}

func addClientFlags(cmd *cobra.Command) *clientFlags {
	f := &clientFlags{addr: addAddrFlag(cmd)}
	cmd.Flags().DurationVar(&f.timeout, "timeout", client.DefaultTimeout, "longest wait for progress, 0 for none")
	cmd.Flags().DurationVar(&f.deadline, "deadline", 0, "longest time for the whole command, 0 for none")
	return f
}

// context adds the deadline to that of the command.
func (f *clientFlags) context(parent context.Context) (context.Context, context.CancelFunc, error) {
	switch {
	case f.timeout < 0:
		return nil, nil, usageErrorf("--timeout %v: want a time that is not negative", f.timeout)
	case f.deadline < 0:
		return nil, nil, usageErrorf("--deadline %v: want a time that is not negative", f.deadline)
	case f.deadline == 0:
		ctx, cancel := context.WithCancel(parent)
		return ctx, cancel, nil
	}
	ctx, cancel := context.WithTimeout(parent, f.deadline)
	return ctx, cancel, nil
}

func (f *clientFlags) config() client.Config {
	cfg := client.Config{Timeout: f.timeout, Software: "ndferry " + Version}
	if f.timeout == 0 {
		cfg.Timeout = -1
	}
	return cfg
}

func (f *clientFlags) dial(ctx context.Context) (*client.Client, error) {
	return client.Dial(ctx, f.addr.String(), f.config())
}

// connected runs a command's work with a connection to the server.
func (f *clientFlags) connected(parent context.Context, work func(context.Context, *client.Client) error) error {
	ctx, cancel, err := f.context(parent)
	if err != nil {
		return err
	}
	defer cancel()
	c, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return work(ctx, c)
}

// each runs work for every name and goes on after a failure, which it prints, unless the connection is gone. The exit code is
// that of the failure when there is one name, else ExitIntegrity when something was damaged, else ExitPartial.
func (a *app) each(cmd *cobra.Command, c *client.Client, names []string, work func(name string) error) error {
	failed, code := 0, ExitPartial
	for _, name := range names {
		err := work(name)
		if err == nil {
			continue
		}
		if len(names) == 1 || c.Err() != nil {
			return err
		}
		a.printError(cmd, err)
		failed++
		if ExitCode(err) == ExitIntegrity {
			code = ExitIntegrity
		}
	}
	if failed == 0 {
		return nil
	}
	return &ExitError{Code: code, Err: fmt.Errorf("%s: %d of %d failed", cmd.Name(), failed, len(names))}
}

// report shows in p what a transfer tells.
func (p *progress) report() func(done, total int64) {
	last := int64(0)
	return func(done, _ int64) {
		p.add(done - last)
		last = done
	}
}

// seconds writes a duration for people.
func seconds(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
