package main

import (
	"flag"
	"fmt"
	"strings"

	"ndferry/internal/bench"
)

// serve compares drivers of the server, or one server beside crowds of different kinds.
var serve = bench.Scenario{
	Name: "serve",
	Doc:  "the server under its drivers, or beside crowds: bulk, small, idle, slow, silent and resetting clients",
	New: func(f *flag.FlagSet) func() ([]bench.Side, error) {
		dir := f.String("dir", "bin", "where ndferry and ndload are")
		store := f.String("store", "mem:", "store of the servers; a directory gets a subdirectory for each side")
		drivers := f.String("drivers", "loop,goroutine", "drivers to compare")
		load := f.String("load", "-bulk 1 -seconds 2", "what all sides are given: flags of ndload")
		crowds := f.String("crowds", "", "more flags of ndload, one side for each, separated by commas; for one driver")
		port := f.Int("port", 20500, "first of the ports")
		unix := f.Bool("unix", false, "over Unix sockets")
		env := f.String("env", "", "a variable of the servers' environment, NAME=VALUE")
		return func() ([]bench.Side, error) {
			var sides []bench.Side
			add := func(name, driver, extra string) {
				addr := fmt.Sprintf("tcp://127.0.0.1:%d", *port+len(sides))
				if *unix {
					addr = fmt.Sprintf("unix://@ndbench-%d", *port+len(sides))
				}
				where := *store
				if where != "mem:" {
					where = fmt.Sprintf("%s/%d", where, len(sides))
				}
				server := bench.Proc{Path: *dir + "/ndferry", ReadyLine: "serving",
					Args: []string{"serve", "--store", where, "--listen", addr, "--workers", "0", "--driver", driver}}
				if *env != "" {
					server.Env = []string{*env}
				}
				args := append([]string{"-addr", addr}, strings.Fields(*load+" "+extra)...)
				sides = append(sides, bench.Side{Name: name, Servers: []bench.Proc{server},
					Client: bench.Proc{Path: *dir + "/ndload", Args: args}, Values: loadFigures})
			}
			if *crowds == "" {
				for d := range strings.SplitSeq(*drivers, ",") {
					add(d, d, "")
				}
				return sides, nil
			}
			for c := range strings.SplitSeq(","+*crowds, ",") {
				name := strings.Join(strings.Fields(c), " ")
				if name == "" {
					name = "alone"
				}
				add(name, strings.Split(*drivers, ",")[0], c)
			}
			return sides, nil
		}
	},
}
