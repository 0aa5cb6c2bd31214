package main

import (
	"flag"

	"ndferry/internal/bench"
)

// startup tells what one call of the command line costs before it does any
// work, beside a process that does nothing and a bare Python.
var startup = bench.Scenario{
	Name: "startup",
	Doc:  "start and end of ndferry version, /bin/true and a bare Python",
	New: func(params *flag.FlagSet) func() ([]bench.Side, error) {
		binary := params.String("ndferry", "bin/ndferry", "program to measure; make build makes it")
		python := params.String("python", "python3", "Python to compare with")
		return func() ([]bench.Side, error) {
			return []bench.Side{
				{Name: "ndferry", Client: bench.Proc{Path: *binary, Args: []string{"version"}}},
				{Name: "true", Client: bench.Proc{Path: "/bin/true"}},
				{Name: "python", Client: bench.Proc{Path: *python, Args: []string{"-c", "pass"}}},
			}, nil
		}
	},
}
