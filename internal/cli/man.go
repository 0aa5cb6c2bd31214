package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newManCmd(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man [COMMAND...]",
		Short: "Write manual pages",
		Long: `Write the manual page of a command, or of ndferry itself, to standard output;
with --dir the pages of all commands into an existing directory.`,
		Example: "  ndferry man version | man -l -\n  ndferry man --dir /usr/local/share/man/man1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir != "" {
				if len(args) > 0 {
					return usageErrorf("man: give either --dir or a command")
				}
				return writeManDir(cmd.Root(), dir)
			}
			page, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageErrorf("man: no command %q", strings.Join(args, " "))
			}
			return writeMan(a.stdout, page)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write the pages of all commands into this directory")
	return cmd
}

func writeManDir(root *cobra.Command, dir string) (err error) {
	eachCommand(root, func(cmd *cobra.Command) {
		if err != nil || cmd.Hidden {
			return
		}
		var page strings.Builder
		if err = writeMan(&page, cmd); err == nil {
			err = os.WriteFile(filepath.Join(dir, manName(cmd)+".1"), []byte(page.String()), 0o644)
		}
	})
	if err != nil {
		return fmt.Errorf("man: %w", err)
	}
	return nil
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// writeMan writes one page with the macros of man(7).
func writeMan(w io.Writer, cmd *cobra.Command) error {
	var b strings.Builder
	section := func(name string) { fmt.Fprintf(&b, ".SH %s\n", name) }
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"ndferry %s\"\n", strings.ToUpper(manName(cmd)), roff(Version))
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, ".B %s\n", roff(cmd.UseLine()))
	section("DESCRIPTION")
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	manBlock(&b, long)
	if cmd.HasAvailableSubCommands() {
		section("COMMANDS")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(sub.Name()), roff(sub.Short))
			}
		}
	}
	section("OPTIONS")
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) { manFlag(&b, f) })
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { manFlag(&b, f) })
	if cmd.Example != "" {
		section("EXAMPLES")
		manBlock(&b, cmd.Example)
	}
	if cmd.HasParent() {
		section("SEE ALSO")
		fmt.Fprintf(&b, ".BR %s (1)\n", roff(manName(cmd.Parent())))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func manFlag(b *strings.Builder, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	kind, usage := pflag.UnquoteUsage(f)
	fmt.Fprintf(b, ".TP\n.B %s\n%s", roff(strings.TrimSpace("--"+f.Name+" "+kind)), roff(usage))
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
		fmt.Fprintf(b, " (default %s)", roff(f.DefValue))
	}
	if f.Name != "help" {
		fmt.Fprintf(b, "; environment %s", roff(envName(f.Name)))
	}
	b.WriteString("\n")
}

// manBlock writes a text whose line breaks are to be kept.
func manBlock(b *strings.Builder, text string) {
	b.WriteString(".nf\n")
	for line := range strings.Lines(text) {
		b.WriteString(roff(strings.TrimRight(line, "\n")) + "\n")
	}
	b.WriteString(".fi\n")
}

// roff escapes one line: backslashes, hyphens that must stay hyphens, and a
// control character at the start.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
