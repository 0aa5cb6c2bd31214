// Package cli is the command line of ndferry: one file per command, and the
// conventions that all commands share.
//
// Results go to standard output, everything else to standard error. With
// --json a result is one JSON object on one line. Every flag has an
// environment variable (env.go), every kind of failure an exit code
// (exit.go). Progress shows as a bar on a terminal and as log lines elsewhere
// (progress.go). The first interrupt ends cleanly, the second aborts
// (signals.go).
//
// To add a command, write newVERBCmd(a *app) *cobra.Command in VERB.go, with
// Short, Long where it needs one, Example and RunE, and add it to newRoot.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
)

// app is what the commands of one run share. Owned by the goroutine of Main;
// the log and the progress may be used from others.
type app struct {
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
	lookupEnv func(string) (string, bool)
	log       *slog.Logger
	now       func() time.Time

	json     bool   // --json
	progress string // --progress
	running  bool   // the arguments were good and a command has started
}

// Main runs the command line and returns the exit code. It does not touch the
// process's own standard files or environment; it handles SIGINT and SIGTERM
// while it runs.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, lookupEnv func(string) (string, bool)) int {
	ctx, stop := withSignals(context.Background())
	defer stop()
	return run(ctx, args, stdin, stdout, stderr, lookupEnv)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, lookupEnv func(string) (string, bool)) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, lookupEnv: lookupEnv, now: time.Now}
	a.log = slog.New(slog.NewTextHandler(stderr, nil))
	root := newRoot(a)
	if args == nil {
		args = []string{} // nil would make cobra read os.Args
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	switch {
	case !a.running:
		err = asUsage(err)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = fmt.Errorf("interrupted: %w", err)
	}
	a.printError(cmd, err)
	return ExitCode(err)
}

// printError writes a failure to standard error, once.
func (a *app) printError(cmd *cobra.Command, err error) {
	prefix := "ndferry:"
	if a.color() {
		prefix = "\x1b[31m" + prefix + "\x1b[0m"
	}
	fmt.Fprintf(a.stderr, "%s %v\n", prefix, err)
	var exit *ExitError
	if errors.As(err, &exit) && exit.Code == ExitUsage {
		fmt.Fprintf(a.stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
	}
}
