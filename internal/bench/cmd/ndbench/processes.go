package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ndferry/internal/bench"
)

// processSides are echo servers that accept by themselves or pass what they accept to processes. PORT stands for the port, DIR for the
// peers' directory.
var processSides = []struct{ name, command string }{
	{"alone", "bin/ndferry echo --listen 127.0.0.1:PORT"},
	{"workers1", "bin/ndferry echo --listen 127.0.0.1:PORT --workers 1"},
	{"workers2", "bin/ndferry echo --listen 127.0.0.1:PORT --workers 2"},
	{"least2", "bin/ndferry echo --listen 127.0.0.1:PORT --workers 2 --dispatch least-loaded"},
	{"cloop", "DIR/cloop PORT"},
	{"reuseport2", "DIR/cloop 2 PORT"},
	{"node", "node bench/peers/cluster/cluster.js PORT 0"},
	{"cluster1", "node bench/peers/cluster/cluster.js PORT 1"},
	{"cluster2", "node bench/peers/cluster/cluster.js PORT 2"},
}

// processParams are the parameters that the scenarios of processes share.
type processParams struct {
	dir, sides  string
	conns, size int
	seconds     float64
	port        int
}

func (p *processParams) register(f *flag.FlagSet, sides string, conns int) {
	var names []string
	for _, s := range processSides {
		names = append(names, s.name)
	}
	f.StringVar(&p.dir, "dir", "bin/peers", "where make bench-peers put the peers and the load generators")
	f.StringVar(&p.sides, "sides", sides, "servers to compare, of "+strings.Join(names, ","))
	f.IntVar(&p.conns, "conns", conns, "connections at a time")
	f.IntVar(&p.size, "size", 64, "bytes of the message")
	f.Float64Var(&p.seconds, "seconds", 1, "length of a round; its first fifth is not counted")
	f.IntVar(&p.port, "port", 20600, "first of the ports")
}

// build makes the sides; client is a shell command with PORT in it.
func (p *processParams) build(client string) ([]bench.Side, error) {
	var sides []bench.Side
	for i, name := range strings.Split(p.sides, ",") {
		k := slices.IndexFunc(processSides, func(s struct{ name, command string }) bool { return s.name == name })
		if k < 0 {
			return nil, fmt.Errorf("no server %q", name)
		}
		at := strings.NewReplacer("PORT", strconv.Itoa(p.port+i), "DIR", p.dir)
		sides = append(sides, bench.Side{
			Name: name,
			// A line of log for each connection goes nowhere.
			Servers: []bench.Proc{{Path: "/bin/sh", Args: []string{"-c", "exec " + at.Replace(processSides[k].command) + " 2>/dev/null"}, ReadyProbe: dialProbe(p.port + i)}},
			Client:  bench.Proc{Path: "/bin/sh", Args: []string{"-ec", at.Replace(client)}},
			Values:  loadFigures,
		})
	}
	return sides, nil
}

// dispatch measures short connections through a master and its workers.
var dispatch = bench.Scenario{
	Name: "dispatch",
	Doc:  "connect, one message, its answer, close: servers that accept by themselves, and through a master and its workers",
	New: func(f *flag.FlagSet) func() ([]bench.Side, error) {
		var p processParams
		p.register(f, "alone,workers1,workers2,reuseport2,node,cluster1,cluster2", 64)
		return func() ([]bench.Side, error) {
			return p.build(fmt.Sprintf("%s PORT %d %d %g", filepath.Join(p.dir, "churn"), p.conns, p.size, p.seconds))
		}
	},
}

// slowWorker measures short connections while the first worker stands still half of the time.
var slowWorker = bench.Scenario{
	Name: "slow-worker",
	Doc:  "round robin and least loaded while one worker of two is stopped for a part of the time",
	New: func(f *flag.FlagSet) func() ([]bench.Side, error) {
		var p processParams
		p.register(f, "workers2,least2", 64)
		stopped := f.Int("stopped", 8, "ms of each 10 in which the first worker is stopped")
		return func() ([]bench.Side, error) {
			return p.build(fmt.Sprintf("exec python3 bench/peers/slow.py PORT %d %s PORT %d %d %g",
				*stopped, filepath.Join(p.dir, "churn"), p.conns, p.size, p.seconds))
		}
	},
}

// passedBulk measures one stream through a connection that was passed.
var passedBulk = bench.Scenario{
	Name: "passed-bulk",
	Doc:  "one endless stream, sent and read back, over an accepted and over a passed connection",
	New: func(f *flag.FlagSet) func() ([]bench.Side, error) {
		var p processParams
		p.register(f, "alone,workers1", 1)
		return func() ([]bench.Side, error) {
			return p.build(fmt.Sprintf("%s PORT bulk %g", filepath.Join(p.dir, "cload"), p.seconds))
		}
	},
}
