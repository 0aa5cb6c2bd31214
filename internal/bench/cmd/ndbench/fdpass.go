package main

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"ndferry/internal/bench"
)

// fdpassRate compares package fdpass with C: descriptors a second from one
// process to another, received and closed.
var fdpassRate = bench.Scenario{
	Name: "fdpass",
	Doc:  "descriptors per second between two processes, package fdpass beside C",
	New: func(params *flag.FlagSet) func() ([]bench.Side, error) {
		total := params.Int("n", 400_000, "descriptors in a round")
		batch := params.Int("batch", 1, "descriptors in each message, at most 128")
		size := params.Int("size", 128, "bytes of data in each message")
		bin := params.String("bin", "bin", "directory for the two programs, built on each run")
		return func() ([]bench.Side, error) {
			ours, c := filepath.Join(*bin, "fdrate"), filepath.Join(*bin, "fdrate-c")
			for _, build := range [][]string{
				{"go", "build", "-o", ours, "./fdpass/fdrate"},
				{"gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", c, "bench/peers/fdrate.c"},
			} {
				if out, err := exec.Command(build[0], build[1:]...).CombinedOutput(); err != nil {
					return nil, fmt.Errorf("%s: %w\n%s", strings.Join(build, " "), err, out)
				}
			}
			args := []string{"-n", strconv.Itoa(*total), "-batch", strconv.Itoa(*batch), "-size", strconv.Itoa(*size)}
			return []bench.Side{
				{Name: "fdpass", Client: bench.Proc{Path: ours, Args: args}, Values: descriptorsPerSecond},
				{Name: "c", Client: bench.Proc{Path: c, Args: args}, Values: descriptorsPerSecond},
			}, nil
		}
	},
}

func descriptorsPerSecond(stdout []byte) (map[string]float64, error) {
	rate, err := strconv.ParseFloat(strings.TrimSpace(string(stdout)), 64)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"fds/s": rate}, nil
}
