package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"ndferry/internal/bench"
)

// loopSides are the echo servers that can be compared; the order is that of
// the tables. PORT stands for the port.
var loopSides = []struct{ name, command string }{
	{"evloop", "bin/ndferry echo --listen 127.0.0.1:PORT --max-conns 19900"},
	{"poll", "bin/ndferry echo --listen 127.0.0.1:PORT --max-conns 19900 --backend poll"},
	{"select", "bin/ndferry echo --listen 127.0.0.1:PORT --max-conns 19900 --backend select"},
	{"cloop", "DIR/cloop PORT"},
	{"goloop", "DIR/goloop PORT"},
	{"gonet", "DIR/gonet PORT"},
	{"libuv", "DIR/uvecho PORT"},
	{"netpoll", "DIR/netpoll PORT"},
	{"asyncio", "python3 bench/peers/asyncio/echo.py PORT asyncio"},
	{"uvloop", "DIR/venv/bin/python bench/peers/asyncio/echo.py PORT uvloop"},
}

// loopParams are the parameters that the scenarios of the loop share.
type loopParams struct {
	dir, sides string
	conns      int
	size       int
	seconds    float64
	active     int
	procs      int
	port       int
	pin        bool
}

func (p *loopParams) register(f *flag.FlagSet, sides string) {
	f.StringVar(&p.dir, "dir", "bin/peers", "where make bench-peers put the peers and the load generator")
	f.StringVar(&p.sides, "sides", sides, "servers to compare, of "+loopNames())
	f.IntVar(&p.conns, "conns", 100, "connections")
	f.IntVar(&p.size, "size", 64, "bytes of a message")
	f.Float64Var(&p.seconds, "seconds", 2, "length of a round; its first fifth is not counted")
	f.IntVar(&p.port, "port", 20400, "first of the ports")
	f.BoolVar(&p.pin, "pin", false, "the server on CPU 0 and the load on CPU 1, so that neither takes the other's time")
}

func loopNames() string {
	var names []string
	for _, s := range loopSides {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

// build makes the sides; client returns a shell command for a port.
func (p *loopParams) build(client func(port int) string, values func([]byte) (map[string]float64, error)) ([]bench.Side, error) {
	var sides []bench.Side
	for i, name := range strings.Split(p.sides, ",") {
		k := slices.IndexFunc(loopSides, func(s struct{ name, command string }) bool { return s.name == name })
		if k < 0 {
			return nil, fmt.Errorf("no server %q: have %s", name, loopNames())
		}
		port := p.port + i
		args := strings.Fields(strings.NewReplacer("PORT", strconv.Itoa(port), "DIR", p.dir).Replace(loopSides[k].command))
		load := []string{"/bin/sh", "-ec", client(port)}
		if p.pin {
			args = append([]string{"taskset", "-c", "0"}, args...)
			load = append([]string{"taskset", "-c", "1"}, load...)
		}
		sides = append(sides, bench.Side{
			Name:    name,
			Servers: []bench.Proc{{Path: args[0], Args: args[1:], ReadyProbe: dialProbe(port)}},
			Client:  bench.Proc{Path: load[0], Args: load[1:]},
			Values:  values,
		})
	}
	return sides, nil
}

func dialProbe(port int) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			err = c.Close()
		}
		return err
	}
}

// loadFigures joins the JSON lines of several load generators: rates and
// counts are summed, of latencies the worst is taken.
func loadFigures(stdout []byte) (map[string]float64, error) {
	all := map[string]float64{}
	for line := range bytes.Lines(stdout) {
		var one map[string]float64
		if err := json.Unmarshal(line, &one); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		for k, v := range one {
			if strings.HasSuffix(k, "_us") || k == "size" || k == "seconds" {
				all[k] = max(all[k], v)
			} else {
				all[k] += v
			}
		}
	}
	return all, nil
}

// loop compares echo servers under a closed loop of clients.
var loop = bench.Scenario{
	Name: "loop",
	Doc:  "echo servers under clients that keep one message in flight each, or are idle",
	New: func(f *flag.FlagSet) func() ([]bench.Side, error) {
		var p loopParams
		p.register(f, "evloop,cloop,goloop,gonet")
		f.IntVar(&p.active, "active", 0, "connections that talk, of each load process (0: all); the others stay idle")
		f.IntVar(&p.procs, "procs", 1, "load processes that share the connections")
		return func() ([]bench.Side, error) {
			return p.build(func(port int) string {
				return fmt.Sprintf("exec %s %d %d %d %g %d %d", filepath.Join(p.dir, "cload"), port, p.conns/p.procs, p.size, p.seconds, -p.active, p.procs)
			}, loadFigures)
		}
	},
}

// neighbour measures small messages at fixed times beside a bulk stream.
var neighbour = bench.Scenario{
	Name: "neighbour",
	Doc:  "latency of small messages at a fixed rate beside one endless bulk stream",
	New: func(f *flag.FlagSet) func() ([]bench.Side, error) {
		var p loopParams
		p.register(f, "evloop,cloop,gonet")
		rate := f.Int("rate", 20, "messages a second of each connection")
		return func() ([]bench.Side, error) {
			return p.build(func(port int) string {
				load := filepath.Join(p.dir, "cload")
				return fmt.Sprintf("%s %d bulk %g & %s %d %d %d %g %d; wait", load, port, p.seconds+0.5, load, port, p.conns, p.size, p.seconds, *rate)
			}, loadFigures)
		}
	},
}

// resp compares servers of the Redis protocol under redis-benchmark.
var resp = bench.Scenario{
	Name: "resp",
	Doc:  "PING of examples/resp and of redis-server under redis-benchmark",
	New: func(f *flag.FlagSet) func() ([]bench.Side, error) {
		server := f.String("resp", "bin/peers/resp", "examples/resp, built")
		pipeline := f.Int("P", 1, "commands in flight on each of 50 connections")
		n := f.Int("n", 400_000, "commands of a round")
		test := f.String("t", "ping_mbulk", "ping_inline or ping_mbulk")
		return func() ([]bench.Side, error) {
			var sides []bench.Side
			for i, s := range [][]string{
				{"evloop", *server, "-listen", "127.0.0.1:20460"},
				{"redis", "redis-server", "--port", "20461", "--save", "", "--appendonly", "no", "--loglevel", "warning"},
			} {
				port := 20460 + i
				sides = append(sides, bench.Side{
					Name:    s[0],
					Servers: []bench.Proc{{Path: s[1], Args: s[2:], ReadyProbe: dialProbe(port)}},
					Client: bench.Proc{Path: "redis-benchmark", Args: []string{"-p", strconv.Itoa(port), "-t", *test,
						"-n", strconv.Itoa(*n), "-P", strconv.Itoa(*pipeline), "--csv"}},
					Values: func(out []byte) (map[string]float64, error) { return respFigures(out, float64(*n)) },
				})
			}
			return sides, nil
		}
	},
}

// respFigures reads the last line of redis-benchmark's CSV: name, rate,
// average, minimum, p50, p95, p99 and maximum latency in ms.
func respFigures(out []byte, n float64) (map[string]float64, error) {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Split(lines[len(lines)-1], ",")
	if len(fields) != 8 {
		return nil, fmt.Errorf("no result in %q", out)
	}
	got := map[string]float64{"all": n}
	for name, i := range map[string]int{"per_second": 1, "p50_us": 4, "p99_us": 6} {
		v, err := strconv.ParseFloat(strings.Trim(fields[i], `"`), 64)
		if err != nil {
			return nil, err
		}
		if i > 1 {
			v *= 1000
		}
		got[name] = v
	}
	return got, nil
}
