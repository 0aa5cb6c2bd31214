// Package bench is the one benchmark runner of the repository. It measures
// processes from outside, so that it treats ours and those of others alike.
//
// A [Scenario] compares two or more sides. A [Side] has servers, which are
// started once and stay for all its rounds, and a client, which is started
// anew for each round and is what is timed, from its start to its exit. Every
// side first runs its warm-up rounds; then the sides take turns, A B A B, so
// that a machine that grows slower or faster does so for all. The runner
// reports medians with minimum, maximum and MAD (the median of the distances
// from the median), and the CPU seconds and peak memory of the client and of
// the servers, with all processes that each of them started.
//
// Scenarios are values in Go, one file each in internal/bench/cmd/ndbench,
// with typed parameters that are flags:
//
//	go run ./internal/bench/cmd/ndbench                     lists the scenarios
//	go run ./internal/bench/cmd/ndbench startup -rounds 9   runs one
//
// Programs of other projects to compare with go into bench/peers. To add a
// benchmark write a scenario, never a runner.
//
// Servers are measured on Linux only. What a process had before exec counts
// into its peak memory, so that even /bin/true shows some 4 MiB.
package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"
)

// MinRounds is the fewest rounds that a comparison is made of.
const MinRounds = 5

// AddrEnv is the environment variable that tells a client what its server's
// ReadyLine caught.
const AddrEnv = "BENCH_SERVER"

// PidsEnv is the environment variable that tells a client the process IDs of
// the servers, separated by commas, in the order in which they were started.
const PidsEnv = "BENCH_SERVER_PIDS"

// Scenario is one comparison. Immutable.
type Scenario struct {
	Name string // one word, for the command line
	Doc  string // one sentence
	// New registers the parameters and returns what builds the sides once
	// they are parsed.
	New func(params *flag.FlagSet) func() ([]Side, error)
}

// Side is one of the things compared.
type Side struct {
	Name    string
	Servers []Proc // started in this order before the first round
	Client  Proc   // run to its end: ReadyLine and ReadyProbe are not used
	Bytes   int64  // moved in a round, for MB/s (1e6 bytes); 0 for none
	// Values reads figures of the client's own from what it wrote to
	// standard output; nil for none.
	Values func(stdout []byte) (map[string]float64, error)
}

// Proc is one process to start. It becomes the leader of a process group,
// and the whole group is killed at the end.
type Proc struct {
	Path string // as in exec.Command
	Args []string
	Env  []string // added to the environment of the runner
	Dir  string
	// A server is ready when a line of its standard output matches the
	// regular expression ReadyLine, or when ReadyProbe first returns nil.
	// Exactly one of the two is set. When ReadyLine has a group, the client
	// finds what its last group matched, such as an address, in AddrEnv.
	ReadyLine  string
	ReadyProbe func(ctx context.Context) error
}

// Config says how to run a scenario. The zero value works.
type Config struct {
	Rounds       int           // 0 means MinRounds; fewer are refused
	Warmup       int           // 0 means 1, negative means none
	ReadyTimeout time.Duration // for a server to be ready; 0 means 30 s
	RoundTimeout time.Duration // for one client; 0 means 5 min
	Log          io.Writer     // progress and the servers' standard error; nil for none
}

func (c Config) withDefaults() (Config, error) {
	if c.Rounds == 0 {
		c.Rounds = MinRounds
	}
	if c.Rounds < MinRounds {
		return c, fmt.Errorf("bench: %d rounds: at least %d are needed for a median with a spread", c.Rounds, MinRounds)
	}
	if c.Warmup == 0 {
		c.Warmup = 1
	}
	if c.ReadyTimeout == 0 {
		c.ReadyTimeout = 30 * time.Second
	}
	if c.RoundTimeout == 0 {
		c.RoundTimeout = 5 * time.Minute
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	return c, nil
}

// Round is what one round of one side measured.
type Round struct {
	Side      string             `json:"side"`
	Round     int                `json:"round"`              // from 1
	Seconds   float64            `json:"seconds"`            // wall clock, start to exit of the client
	Bytes     int64              `json:"bytes,omitzero"`     // moved
	ClientCPU float64            `json:"client_cpu_seconds"` // user and system, with descendants
	ClientRSS int64              `json:"client_peak_bytes"`  // largest process
	ServerCPU float64            `json:"server_cpu_seconds"` // of all servers of the side
	ServerRSS int64              `json:"server_peak_bytes"`  // sum over their processes
	Values    map[string]float64 `json:"values,omitempty"`   // the client's own figures
	Start     time.Time          `json:"start"`              // wall clock
}

// Run runs a comparison and returns its rounds in the order in which they
// ran, warm-up left out. The first failure of any process ends it; no process
// that it started is left in any case.
func Run(ctx context.Context, sides []Side, config Config) (rounds []Round, err error) {
	config, err = config.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkSides(sides); err != nil {
		return nil, err
	}
	running := make([]*runningSide, len(sides))
	defer func() {
		for _, r := range running {
			if r != nil {
				err = errors.Join(err, r.stop())
			}
		}
	}()
	for i, side := range sides {
		if running[i], err = startSide(ctx, side, config); err != nil {
			return nil, err
		}
		for n := range config.Warmup {
			fmt.Fprintf(config.Log, "%s: warm-up %d\n", side.Name, n+1)
			if _, err := running[i].round(ctx, config); err != nil {
				return nil, err
			}
		}
	}
	for n := range config.Rounds {
		for _, r := range running {
			round, err := r.round(ctx, config)
			if err != nil {
				return nil, err
			}
			round.Round = n + 1
			fmt.Fprintf(config.Log, "%s: round %d: %.4f s\n", round.Side, round.Round, round.Seconds)
			rounds = append(rounds, round)
		}
	}
	return rounds, nil
}

func checkSides(sides []Side) error {
	if len(sides) == 0 {
		return errors.New("bench: no sides to run")
	}
	seen := map[string]bool{}
	for _, side := range sides {
		if side.Name == "" || seen[side.Name] {
			return fmt.Errorf("bench: side %q: every side has a name of its own", side.Name)
		}
		seen[side.Name] = true
		for _, server := range side.Servers {
			if (server.ReadyLine == "") == (server.ReadyProbe == nil) {
				return fmt.Errorf("bench: side %s: server %s: set ReadyLine or ReadyProbe", side.Name, server.Path)
			}
		}
	}
	return nil
}
