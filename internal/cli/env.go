package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// envName returns the environment variable of a flag: NDFERRY_ADDR for --addr.
func envName(flag string) string {
	return "NDFERRY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagsWithoutEnv act at once instead of setting something.
var flagsWithoutEnv = []string{"help", "version"}

// applyEnv sets the flags that the command line left out from their
// environment variables. An empty variable counts as unset; a flag that may
// be given several times takes a list with commas.
func (a *app) applyEnv(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if failed != nil || f.Changed || slices.Contains(flagsWithoutEnv, f.Name) {
			return
		}
		name := envName(f.Name)
		text, ok := a.lookupEnv(name)
		if !ok || text == "" {
			return
		}
		if err := setFromEnv(flags, f, text); err != nil {
			failed = usageErrorf("environment variable %s=%q: %w", name, text, err)
		}
	})
	return failed
}

func setFromEnv(flags *pflag.FlagSet, f *pflag.Flag, text string) error {
	list, ok := f.Value.(pflag.SliceValue)
	if !ok {
		if err := f.Value.Set(text); err != nil {
			return fmt.Errorf("not a value of --%s: %w", f.Name, err)
		}
		f.Changed = true
		return nil
	}
	if err := list.Replace(strings.Split(text, ",")); err != nil {
		return fmt.Errorf("not a list for --%s: %w", f.Name, err)
	}
	f.Changed = true
	return nil
}
