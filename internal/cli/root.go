package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `ndferry moves large numeric arrays between processes and machines: verified,
resumable, and stored as plain Zarr v3.

Every flag can be set by an environment variable: --chunk by NDFERRY_CHUNK. A
flag on the command line goes before its variable. NO_COLOR turns colours off.`

// newRoot builds the tree of commands of one run.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "ndferry",
		Short: "Move large numeric arrays between processes and machines",
		Long:  rootLong + "\n\n" + exitHelp(),
		Example: `  ndferry serve --store /srv/arrays &
  ndferry ping --wait 5s
  ndferry put run7.npy lab/run7
  ndferry ls lab/
  ndferry get lab/run7 copy.npy
  ndferry verify --all`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.begin(cmd)
		},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "write the result as one JSON object")
	root.PersistentFlags().StringVar(&a.progress, "progress", progressAuto,
		"how to show progress: auto, bar, log or none")
	root.AddCommand(
		newBenchCmd(a),
		newEchoCmd(a),
		newGetCmd(a),
		newLsCmd(a),
		newManCmd(a),
		newPingCmd(a),
		newPutCmd(a),
		newRecvCmd(a),
		newRmCmd(a),
		newSendCmd(a),
		newServeCmd(a),
		newStatCmd(a),
		newStatusCmd(a),
		newVerifyCmd(a),
		newVersionCmd(a),
		newWorkerCmd(a),
	)
	root.SetHelpCommand(newHelpCmd())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	eachCommand(root, func(cmd *cobra.Command) { a.markRunning(cmd) })
	return root
}

// begin is the pre-run of every command; a command must not have a persistent
// pre-run of its own, which would take its place.
func (a *app) begin(cmd *cobra.Command) error {
	if err := a.applyEnv(cmd.Flags()); err != nil {
		return err
	}
	return checkProgressMode(a.progress)
}

// markRunning wraps a command's RunE, so that an error before it is known for
// a usage error: cobra gives those no type. A command that only groups others
// gets a RunE that shows its help; without one cobra would not look at its
// arguments.
func (a *app) markRunning(cmd *cobra.Command) {
	runE := cmd.RunE
	if runE == nil && cmd.Run == nil {
		runE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if runE == nil {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.running = true
		return runE(cmd, args)
	}
}

// anyNumber is no upper bound of arguments.
const anyNumber = -1

// arguments holds a command to between least and most arguments besides its flags.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageErrorf("%s: an argument is missing: %s", cmd.Name(), cmd.UseLine())
		case most != anyNumber && len(args) > most:
			return usageErrorf("%s: %q is an argument too many: %s", cmd.Name(), args[most], cmd.UseLine())
		}
		return nil
	}
}

// knownCommand refuses arguments of the root: there they can only be a
// command that does not exist.
func knownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	root.SuggestionsMinimumDistance = 2
	if close := root.SuggestionsFor(args[0]); len(close) > 0 {
		text += ", did you mean " + strings.Join(close, " or ") + "?"
	}
	return usageErrorf("%s", text)
}

func eachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, visit)
	}
}
