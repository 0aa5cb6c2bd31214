package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/bench"
	measure "ndferry/internal/bench/transfer"
	"ndferry/internal/master"
	"ndferry/internal/session"
)

func newBenchCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure what this machine, or two, can do", Example: "  ndferry bench transfer"}
	cmd.AddCommand(newBenchTransferCmd(a))
	return cmd
}

// codecs are those that bench transfer knows. Without --codec the first three are measured.
var codecs = []string{"none", "zlib", "lz4", "zstd", "auto"}

// benchFlags are the flags of bench transfer.
type benchFlags struct {
	size      sizeValue
	shape     string
	dtype     string
	data      string
	codecs    []string
	transport string
	chunk     sizeValue
	digest    string
	streams   int
	runs      int
	server    bool
	listen    string
	insecure  bool
	to        string
	round     bool
}

func newBenchTransferCmd(a *app) *cobra.Command {
	flags := benchFlags{chunk: client.DefaultChunk}
	cmd := &cobra.Command{
		Use:   "transfer",
		Short: "Measure how fast arrays go to another process and back",
		Long: `Put an array to a server in another process and get it back, several times
after a warm-up, and report medians with their spread: the time until the
receipt says that every chunk was verified, the time back, MB/s (1e6 bytes), CPU
seconds of both sides for each GB moved, the peak memory, and whether every bit
came back.

Without --server and --to both sides run on this machine. Between two machines
start it with --server on one, and with --to on the other.`,
		Example: `  ndferry bench transfer
  ndferry bench transfer --size 256MiB --data random --runs 7 --json
  ndferry bench transfer --server --listen tcp://10.0.0.7:9002 --insecure-no-auth
  ndferry bench transfer --to tcp://10.0.0.7:9002`,
		Args: arguments(0, 0),
	}
	f := cmd.Flags()
	f.Var(&flags.size, "size", "size of the array, in place of --shape")
	f.StringVar(&flags.shape, "shape", "1000,1000", "shape of the array, `N,N,...`")
	f.StringVar(&flags.dtype, "dtype", "<f4", "dtype of the array, as NumPy writes it")
	f.StringVar(&flags.data, "data", "normal", "what it is filled with: "+strings.Join(measure.Kinds, ", ")+" or a FILE.npy")
	f.StringSliceVar(&flags.codecs, "codec", codecs[:3], "codecs to compare: none, zlib, lz4, zstd, auto")
	f.StringVar(&flags.transport, "transport", "tcp", "tcp or unix, when both sides are here")
	f.Var(&flags.chunk, "chunk", "target size of a chunk")
	f.StringVar(&flags.digest, "digest", client.CRC32C, "crc32c or sha256")
	f.IntVar(&flags.streams, "streams", 1, "connections for each transfer")
	f.IntVar(&flags.runs, "runs", bench.MinRounds, "measured rounds, at least 5 when both sides are here")
	f.BoolVar(&flags.server, "server", false, "be the server for others, until it is interrupted")
	f.StringVar(&flags.listen, "listen", client.DefaultAddr, "`ADDR` to listen on with --server")
	f.BoolVar(&flags.insecure, "insecure-no-auth", false, "with --server: allow addresses that other machines may reach")
	f.StringVar(&flags.to, "to", "", "`ADDR` of a server to measure against")
	f.BoolVar(&flags.round, "round", false, "measure one round against the server of the runner")
	f.MarkHidden("round")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if flags.server {
			serve := serveFlags{store: "mem:", listen: []string{flags.listen}, mode: 0o600, insecure: flags.insecure, validate: session.ValidateFull,
				dispatch: master.RoundRobin, control: noControl}
			addrs, err := serve.check()
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), serve, addrs)
		}
		return a.benchTransfer(cmd.Context(), &flags)
	}
	return cmd
}

// check returns the shape that is meant.
func (f *benchFlags) check() (array.Shape, error) {
	switch {
	case f.runs < 1 || f.runs < bench.MinRounds && f.to == "" && !f.round:
		return nil, usageErrorf("bench: --runs %d: a median with its spread needs at least %d", f.runs, bench.MinRounds)
	case f.transport != "tcp" && f.transport != "unix":
		return nil, usageErrorf("bench: --transport %q: want tcp or unix", f.transport)
	case f.chunk < 1 || f.chunk > client.MaxChunk:
		return nil, usageErrorf("bench: --chunk %v: want 1B to %s", &f.chunk, formatSize(client.MaxChunk))
	case f.digest != client.CRC32C && f.digest != client.SHA256:
		return nil, usageErrorf("bench: --digest %q: want crc32c or sha256", f.digest)
	case f.streams < 1 || f.streams > client.MaxStreams:
		return nil, usageErrorf("bench: --streams %d: want 1 to %d", f.streams, client.MaxStreams)
	case len(f.codecs) == 0:
		return nil, usageErrorf("bench: --codec: name at least one of %s", strings.Join(codecs, ", "))
	}
	for _, codec := range f.codecs {
		if !slices.Contains(codecs, codec) {
			return nil, usageErrorf("bench: --codec %q: want some of %s", codec, strings.Join(codecs, ", "))
		}
	}
	dtype, err := array.ParseDType(f.dtype)
	if err != nil {
		return nil, usageErrorf("bench: --dtype: %w", err)
	}
	if f.size > 0 {
		return array.Shape{int(int64(f.size) / int64(dtype.ItemSize()))}, nil
	}
	shape := array.Shape{}
	for text := range strings.SplitSeq(f.shape, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, usageErrorf("bench: --shape %q: want lengths with commas between them", f.shape)
		}
		shape = append(shape, n)
	}
	return shape, nil
}

func (a *app) benchTransfer(ctx context.Context, f *benchFlags) error {
	shape, err := f.check()
	if err != nil {
		return err
	}
	if f.to == "" && !f.round {
		return a.benchHere(ctx, f, shape)
	}
	data, err := measure.Make(f.data, f.dtype, shape)
	if err != nil {
		return asUsage(err)
	}
	put := client.PutOptions{ChunkBytes: int(f.chunk), Digest: f.digest, Streams: f.streams}
	if f.round {
		put.Codec = f.codecs[0]
		addr, _ := a.lookupEnv(bench.AddrEnv)
		return measure.Measure(ctx, addr, data, put, 1, func(r measure.Round) {
			line, _ := json.Marshal(r.Values(), json.Deterministic(true))
			a.stdout.Write(append(line, '\n'))
		})
	}
	var rounds []bench.Round
	for _, codec := range f.codecs {
		put.Codec = codec
		err := measure.Measure(ctx, f.to, data, put, f.runs, func(r measure.Round) {
			rounds = append(rounds, bench.Round{Side: codec, Seconds: r.Put + r.Get, Values: r.Values()})
		})
		if err != nil {
			return err
		}
	}
	return a.printBench(f, data.DType, data.Shape, int64(len(data.Data)), bench.Summarize(rounds))
}

// benchHere starts both sides on this machine: a server for each codec, and a client for each round.
func (a *app) benchHere(ctx context.Context, f *benchFlags, shape array.Shape) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	data, err := measure.Make(f.data, f.dtype, shape) // only for its size, and to fail early
	if err != nil {
		return asUsage(err)
	}
	size := int64(len(data.Data))
	data.Data = nil
	dir, err := os.MkdirTemp("", "ndferry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var sides []bench.Side
	for i, codec := range f.codecs {
		listen := "tcp://127.0.0.1:0"
		if f.transport == "unix" {
			listen = "unix://" + filepath.Join(dir, strconv.Itoa(i))
		}
		args := []string{"bench", "transfer", "--round", "--data", f.data, "--dtype", f.dtype, "--codec", codec, "--chunk", f.chunk.String(),
			"--digest", f.digest, "--streams", strconv.Itoa(f.streams), "--shape", f.shape}
		if f.size > 0 {
			args = append(args, "--size", strconv.FormatInt(int64(f.size), 10))
		}
		sides = append(sides, bench.Side{
			Name: codec,
			Servers: []bench.Proc{{Path: self, Args: []string{"bench", "transfer", "--server", "--listen", listen},
				ReadyLine: `serving mem: on (\S+)`}},
			Client: bench.Proc{Path: self, Args: args},
			Bytes:  size,
			Values: func(stdout []byte) (values map[string]float64, err error) {
				err = json.Unmarshal(stdout, &values)
				return values, err
			},
		})
	}
	rounds, err := bench.Run(ctx, sides, bench.Config{Rounds: f.runs})
	if err != nil {
		return err
	}
	return a.printBench(f, data.DType, data.Shape, size, bench.Summarize(rounds))
}

// benchRow is the JSON of one line of bench transfer.
type benchRow struct {
	Method     string        `json:"method"` // codec
	Time       float64       `json:"time"`   // median seconds of a put, until everything is verified
	Success    bool          `json:"success"`
	Ratio      float64       `json:"compression_ratio"`
	DType      string        `json:"dtype"`
	Shape      []int         `json:"shape"`
	Bytes      int64         `json:"bytes"`
	Data       string        `json:"data"`
	Digest     string        `json:"digest"`
	Transport  string        `json:"transport"`
	Streams    int           `json:"streams"`
	Runs       int           `json:"runs"`
	Put        bench.Spread  `json:"put_seconds"`
	Get        bench.Spread  `json:"get_seconds"`
	PutRate    float64       `json:"put_mb_per_second"`
	GetRate    float64       `json:"get_mb_per_second"`
	ClientCPU  float64       `json:"client_cpu_seconds_per_gb"`
	ServerCPU  *float64      `json:"server_cpu_seconds_per_gb"` // null when the server is elsewhere
	ClientPeak float64       `json:"client_peak_bytes"`
	ServerPeak *bench.Spread `json:"server_peak_bytes"`
}

func (a *app) printBench(f *benchFlags, dtype array.DType, shape array.Shape, size int64, summaries []bench.Summary) error {
	var rows []benchRow
	gb := float64(2*size) / 1e9 // there and back
	transport := f.transport
	if f.to != "" {
		transport, _, _ = strings.Cut(f.to, "://")
	}
	for _, s := range summaries {
		v := s.Values
		row := benchRow{
			Method: s.Side, Time: v["put"].Median, Success: v["exact"].Min == 1, Ratio: v["ratio"].Median,
			DType: dtype.String(), Shape: notNil(shape), Bytes: size, Data: f.data, Digest: f.digest, Transport: transport, Streams: f.streams, Runs: s.Rounds,
			Put: v["put"], Get: v["get"], PutRate: float64(size) / 1e6 / v["put"].Median, GetRate: float64(size) / 1e6 / v["get"].Median,
			ClientCPU: v["cpu"].Median / gb, ClientPeak: v["peak"].Max,
		}
		if f.to == "" {
			cpu := s.ServerCPU.Median / v["cycles"].Median / gb
			row.ServerCPU, row.ServerPeak = &cpu, &s.ServerRSS
		}
		rows = append(rows, row)
	}
	failed := slices.ContainsFunc(rows, func(r benchRow) bool { return !r.Success })
	if !a.json {
		if err := writeBench(a.stdout, rows); err != nil {
			return err
		}
	} else {
		for _, row := range rows {
			if err := a.printResult(row, nil); err != nil {
				return err
			}
		}
	}
	if failed {
		return &ExitError{Code: ExitIntegrity, Err: fmt.Errorf("bench: what came back is not what was sent")}
	}
	return nil
}

func writeBench(w io.Writer, rows []benchRow) error {
	over := rows[0].Transport
	if rows[0].Streams > 1 {
		over += fmt.Sprintf(" over %d connections", rows[0].Streams)
	}
	fmt.Fprintf(w, "%s %v, %s of %s, %s, %d runs\n", rows[0].DType, array.Shape(rows[0].Shape), formatSize(rows[0].Bytes), rows[0].Data, over, rows[0].Runs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "method\tput ms\t(MAD)\tMB/s\tget ms\t(MAD)\tMB/s\tratio\tCPU s/GB\tpeak MiB\texact\t")
	for _, r := range rows {
		cpu, peak := fmt.Sprintf("%.2f", r.ClientCPU), fmt.Sprintf("%.0f", r.ClientPeak/(1<<20))
		if r.ServerCPU != nil {
			cpu += fmt.Sprintf(" + %.2f", *r.ServerCPU)
			peak += fmt.Sprintf(" + %.0f", r.ServerPeak.Max/(1<<20))
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.0f\t%.2f\t%.2f\t%.0f\t%.2f\t%s\t%s\t%t\t\n", r.Method, r.Put.Median*1e3, r.Put.MAD*1e3, r.PutRate,
			r.Get.Median*1e3, r.Get.MAD*1e3, r.GetRate, r.Ratio, cpu, peak, r.Success)
	}
	return t.Flush()
}
