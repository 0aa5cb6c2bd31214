package bench

import (
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
)

// Spread is a median with what lies around it.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	MAD    float64 `json:"mad"` // median of the distances from the median
}

// NewSpread computes the spread of at least one value.
func NewSpread(values []float64) Spread {
	m := median(values)
	far := make([]float64, len(values))
	for i, v := range values {
		far[i] = max(v-m, m-v)
	}
	return Spread{Median: m, Min: slices.Min(values), Max: slices.Max(values), MAD: median(far)}
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// Summary is what the rounds of one side come to.
type Summary struct {
	Side      string            `json:"side"`
	Rounds    int               `json:"rounds"`
	Seconds   Spread            `json:"seconds"`
	MBPerS    *Spread           `json:"mb_per_second,omitempty"` // 1e6 bytes
	ClientCPU Spread            `json:"client_cpu_seconds"`
	ClientRSS Spread            `json:"client_peak_bytes"`
	ServerCPU Spread            `json:"server_cpu_seconds"`
	ServerRSS Spread            `json:"server_peak_bytes"`
	Values    map[string]Spread `json:"values,omitempty"`
}

// Summarize returns one summary for each side, in the order of their first
// rounds.
func Summarize(rounds []Round) []Summary {
	var order []string
	bySide := map[string][]Round{}
	for _, r := range rounds {
		if bySide[r.Side] == nil {
			order = append(order, r.Side)
		}
		bySide[r.Side] = append(bySide[r.Side], r)
	}
	var all []Summary
	for _, name := range order {
		all = append(all, summarize(name, bySide[name]))
	}
	return all
}

func summarize(name string, rounds []Round) Summary {
	spread := func(get func(Round) float64) Spread {
		values := make([]float64, len(rounds))
		for i, r := range rounds {
			values[i] = get(r)
		}
		return NewSpread(values)
	}
	s := Summary{
		Side:      name,
		Rounds:    len(rounds),
		Seconds:   spread(func(r Round) float64 { return r.Seconds }),
		ClientCPU: spread(func(r Round) float64 { return r.ClientCPU }),
		ClientRSS: spread(func(r Round) float64 { return float64(r.ClientRSS) }),
		ServerCPU: spread(func(r Round) float64 { return r.ServerCPU }),
		ServerRSS: spread(func(r Round) float64 { return float64(r.ServerRSS) }),
	}
	if rounds[0].Bytes > 0 {
		rate := spread(func(r Round) float64 { return float64(r.Bytes) / r.Seconds / 1e6 })
		s.MBPerS = &rate
	}
	for key := range rounds[0].Values {
		if s.Values == nil {
			s.Values = map[string]Spread{}
		}
		s.Values[key] = spread(func(r Round) float64 { return r.Values[key] })
	}
	return s
}

// record is one JSON line: "run" first, then each "round", then each "summary".
type record struct {
	Event   string   `json:"event"`
	Version int      `json:"version"` // of this format
	Run     *runInfo `json:"run,omitempty"`
	Round   *Round   `json:"round,omitempty"`
	Summary *Summary `json:"summary,omitempty"`
}

type runInfo struct {
	Scenario string            `json:"scenario"`
	Params   map[string]string `json:"params"`
	Time     time.Time         `json:"time"`
	OS       string            `json:"os"`
	Arch     string            `json:"arch"`
	Kernel   string            `json:"kernel,omitempty"`
	CPUs     int               `json:"cpus"`
	Go       string            `json:"go"`
}

// WriteJSON writes a run as JSON lines.
func WriteJSON(w io.Writer, scenario string, params map[string]string, rounds []Round) error {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // only Linux has it
	records := []record{{Event: "run", Run: &runInfo{
		Scenario: scenario, Params: params, Time: time.Now(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Kernel: strings.TrimSpace(string(kernel)), CPUs: runtime.NumCPU(), Go: runtime.Version(),
	}}}
	for _, r := range rounds {
		records = append(records, record{Event: "round", Round: &r})
	}
	for _, s := range Summarize(rounds) {
		records = append(records, record{Event: "summary", Summary: &s})
	}
	for _, r := range records {
		r.Version = 1
		line, err := json.Marshal(r, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("bench: write JSON: %w", err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("bench: write JSON: %w", err)
		}
	}
	return nil
}

// WriteTable writes the summaries for people: times in seconds, memory in
// MiB, medians with minimum, maximum and MAD of the wall clock.
func WriteTable(w io.Writer, summaries []Summary) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "side\trounds\tseconds\tmin\tmax\tMAD\tMB/s\tclient CPU\tclient MiB\tserver CPU\tserver MiB\t")
	for _, s := range summaries {
		rate := "-"
		if s.MBPerS != nil {
			rate = fmt.Sprintf("%.0f", s.MBPerS.Median)
		}
		fmt.Fprintf(t, "%s\t%d\t%.4f\t%.4f\t%.4f\t%.4f\t%s\t%.3f\t%.1f\t%.3f\t%.1f\t\n", s.Side, s.Rounds,
			s.Seconds.Median, s.Seconds.Min, s.Seconds.Max, s.Seconds.MAD, rate,
			s.ClientCPU.Median, s.ClientRSS.Median/(1<<20), s.ServerCPU.Median, s.ServerRSS.Median/(1<<20))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range summaries {
		for _, key := range slices.Sorted(maps.Keys(s.Values)) {
			v := s.Values[key]
			if _, err := fmt.Fprintf(w, "%s %s: %g (min %g, max %g, MAD %g)\n", s.Side, key, v.Median, v.Min, v.Max, v.MAD); err != nil {
				return err
			}
		}
	}
	return nil
}
