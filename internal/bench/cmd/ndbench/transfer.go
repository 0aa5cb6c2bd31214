package main

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"ndferry/internal/bench"
)

// transferPeers compares our clients with what else moves an array to another
// process and back: bench/peers.
var transferPeers = bench.Scenario{
	Name: "transfer",
	Doc:  "an array to another process and back: ours, bare sockets and other projects",
	New: func(params *flag.FlagSet) func() ([]bench.Side, error) {
		size := params.Int("size", 256<<20, "bytes of the array, float32")
		reps := params.Int("reps", 3, "measured transfers in each round, of which the median counts")
		sides := params.String("sides", "go-bare,go,py-bare,py,py-out,flight,flight-go,zmq-tcp,zmq-ipc,ray,dask,queue,shared",
			"what to compare; go-sha256, py-sha256, go-fresh and textbook-none, -zlib, -lz4 too")
		bin := params.String("bin", "bin", "directory of the programs; bare and ours are built on each run")
		driver := params.String("driver", "", "of the server of our sides; empty: its default")
		python := params.String("python", ".venv-peers/bin/python", "Python with bench/peers/requirements.txt and our package")
		return func() ([]bench.Side, error) {
			names := []string{"bare", "ours"}
			if slices.Contains(strings.Split(*sides, ","), "flight-go") {
				names = append(names, "arrow")
			}
			to, err := filepath.Abs(*bin)
			if err != nil {
				return nil, err
			}
			for _, name := range names { // arrow is a module of its own
				build := exec.Command("go", "build", "-o", filepath.Join(to, "peer-"+name), ".")
				build.Dir = filepath.Join("bench/peers", name)
				if out, err := build.CombinedOutput(); err != nil {
					return nil, fmt.Errorf("%s: %w\n%s", build, err, out)
				}
			}
			var list []bench.Side
			for name := range strings.SplitSeq(*sides, ",") {
				side := transferSide(name, *bin, *python, *driver)
				side.Client.Args = append(side.Client.Args, "client", strconv.Itoa(*size), strconv.Itoa(*reps))
				if _, option, ok := strings.Cut(name, "go-"); ok && option != "bare" {
					side.Client.Args = append(side.Client.Args, option)
				}
				side.Values = func(stdout []byte) (values map[string]float64, err error) {
					if err = json.Unmarshal(stdout, &values); err == nil {
						values["put_mb_s"] = float64(*size) / 1e6 / values["put"]
						values["get_mb_s"] = float64(*size) / 1e6 / values["get"]
					}
					return values, err
				}
				list = append(list, side)
			}
			return list, nil
		}
	},
}

// transferSide is a side without the arguments that all clients have.
func transferSide(name, bin, python, driver string) bench.Side {
	side := bench.Side{Name: name}
	ready := `^ready (.+)$`
	script := func(peer string) bench.Proc {
		return bench.Proc{Path: python, Args: []string{"bench/peers/transfer.py", peer}}
	}
	ours := bench.Proc{Path: filepath.Join(bin, "ndferry"), Args: []string{"serve", "--store", "mem:", "--listen", "tcp://127.0.0.1:0"},
		ReadyLine: `serving mem: on (\S+)`}
	if driver != "" {
		ours.Args = append(ours.Args, "--driver", driver)
	}
	switch name {
	case "go-bare", "flight-go":
		path := filepath.Join(bin, map[string]string{"go-bare": "peer-bare", "flight-go": "peer-arrow"}[name])
		side.Servers = []bench.Proc{{Path: path, Args: []string{"server"}, ReadyLine: ready}}
		side.Client = bench.Proc{Path: path}
	case "go", "go-fresh", "go-sha256":
		side.Servers = []bench.Proc{ours}
		side.Client = bench.Proc{Path: filepath.Join(bin, "peer-ours")}
	case "py", "py-out", "py-sha256":
		side.Servers = []bench.Proc{ours}
		side.Client = script(strings.Replace(name, "py", "ndferry", 1))
	case "ray", "dask", "queue", "shared":
		side.Client = script(name)
	default:
		peer := strings.TrimPrefix(name, "py-")
		server := script(peer)
		server.Args = append(server.Args, "server")
		server.ReadyLine = ready
		side.Servers = []bench.Proc{server}
		side.Client = script(peer)
	}
	return side
}
