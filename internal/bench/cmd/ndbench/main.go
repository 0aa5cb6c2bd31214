// Ndbench runs the benchmark scenarios of this repository: see package bench.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"ndferry/internal/bench"
)

// scenarios is the list: one file of this directory each.
var scenarios = []bench.Scenario{
	durable, fdpassRate, dispatch, slowWorker, passedBulk, serve,
	loop, neighbour, resp,
	startup,
	transferPeers,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "ndbench:", err)
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		for _, s := range scenarios {
			fmt.Fprintf(stdout, "%-12s %s\n", s.Name, s.Doc)
		}
		return nil
	}
	for _, s := range scenarios {
		if s.Name == args[0] {
			return runScenario(ctx, s, args[1:], stdout, stderr)
		}
	}
	return fmt.Errorf("no scenario %q: run without arguments for the list", args[0])
}

func runScenario(ctx context.Context, s bench.Scenario, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("ndbench "+s.Name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	sides := s.New(flags)
	params := map[string]string{}
	var config bench.Config
	flags.IntVar(&config.Rounds, "rounds", bench.MinRounds, "measured rounds of each side")
	flags.IntVar(&config.Warmup, "warmup", 1, "rounds of each side before; negative for none")
	flags.DurationVar(&config.RoundTimeout, "timeout", 0, "for one round (default 5m)")
	asJSON := flags.Bool("json", false, "write JSON lines instead of the table")
	quiet := flags.Bool("q", false, "do not show the rounds as they run")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: unexpected %q", s.Name, flags.Args())
	}
	flags.VisitAll(func(f *flag.Flag) { params[f.Name] = f.Value.String() })
	if !*quiet {
		config.Log = stderr
	}
	built, err := sides()
	if err != nil {
		return err
	}
	rounds, err := bench.Run(ctx, built, config)
	if err != nil {
		return err
	}
	if *asJSON {
		return bench.WriteJSON(stdout, s.Name, params, rounds)
	}
	return bench.WriteTable(stdout, bench.Summarize(rounds))
}
