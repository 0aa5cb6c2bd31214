package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is that of the release. The Python package and CHANGELOG.md have the same, which a test checks.
const Version = "0.1.0"

// commit is set at link time: -X ndferry/internal/cli.commit=97b4f88.
var commit = ""

// versionInfo is the JSON of ndferry version.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  ndferry version\n  ndferry version --json",
		Args:    arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{Version, buildCommit(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return a.printResult(v, func(w io.Writer) error {
				from := ""
				if v.Commit != "" {
					from = v.Commit + ", "
				}
				_, err := fmt.Fprintf(w, "ndferry %s (%s%s, %s/%s)\n", v.Version, from, v.Go, v.OS, v.Arch)
				return err
			})
		},
	}
}

// buildCommit returns the commit from the linker, else what the go command noted, else nothing.
func buildCommit() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	return ""
}
