//go:build linux || darwin || freebsd

package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ndferry/client"
	"ndferry/evloop"
	"ndferry/internal/master"
)

const echoLong = `Answer every byte with itself, over the event loop that the server runs on.

With --lines each line is answered with itself and its own ending once it is
complete; a line longer than --max-line closes its connection.

One line is logged for each client when it leaves, and for all that are
connected, and for the loop, on SIGUSR1. SIGTERM and the first interrupt stop accepting, wait
for the clients that are connected up to --drain, close the rest, and exit 0.

With --workers N this process only accepts, and passes each connection to one of
N worker processes, which run the loops. --greet begins with a line "worker 1" to
"worker N", or "worker 0" without workers.`

// echoConfig is the flags of ndferry echo.
type echoConfig struct {
	listen   addrValue
	backend  string
	lines    bool
	maxLine  sizeValue
	loops    int
	idle     time.Duration
	maxConns int
	drain    time.Duration
	workers  workersValue
	dispatch string
	greet    bool
}

// echoListening is the JSON of ndferry echo: where it listens.
type echoListening struct {
	Addr    string `json:"addr"`
	Backend string `json:"backend"`
	Loops   int    `json:"loops"`
	Workers int    `json:"workers,omitzero"`
}

func newEchoCmd(a *app) *cobra.Command {
	c := &echoConfig{maxLine: 1 << 20}
	if err := c.listen.Set("tcp://127.0.0.1:8080"); err != nil {
		panic(err) // the constant is wrong
	}
	cmd := &cobra.Command{
		Use:     "echo",
		Short:   "Run an echo server on the event loop",
		Long:    echoLong,
		Example: "  ndferry echo\n  ndferry echo --listen unix:///tmp/echo.sock --lines --backend poll",
		Args:    arguments(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.echo(cmd.Context(), c) },
	}
	f := cmd.Flags()
	f.Var(&c.listen, "listen", "where to listen: tcp://HOST:PORT, unix:///path or unix://@name")
	f.StringVar(&c.backend, "backend", "auto", "auto, select, poll, epoll or kqueue")
	f.BoolVar(&c.lines, "lines", false, "answer line by line")
	f.Var(&c.maxLine, "max-line", "longest line")
	f.IntVar(&c.loops, "loops", 1, "event loops, one goroutine each")
	f.DurationVar(&c.idle, "idle", 0, "close clients that are idle for so long (0: never)")
	f.IntVar(&c.maxConns, "max-conns", 0, "most clients at once; more wait to be accepted (0: the descriptor limit)")
	f.Var(&c.workers, "workers", "worker processes; 0 serves in this one, auto is one for each processor")
	f.StringVar(&c.dispatch, "dispatch", master.RoundRobin, "which worker gets a connection: round-robin or least-loaded")
	f.BoolVar(&c.greet, "greet", false, "begin with a line that says which worker serves")
	f.DurationVar(&c.drain, "drain", 5*time.Second, "how long clients may stay after SIGTERM")
	return cmd
}

func (c *echoConfig) check() error {
	switch {
	case c.loops < 1 || c.loops > 1024:
		return usageErrorf("echo: --loops %d: want 1 to 1024", c.loops)
	case c.maxLine < 1 || c.maxLine > 1<<30:
		return usageErrorf("echo: --max-line %v: want 1B to 1GiB", &c.maxLine)
	case c.maxConns < 0:
		return usageErrorf("echo: --max-conns %d: want 0 or more", c.maxConns)
	case c.idle < 0 || c.drain < 0:
		return usageErrorf("echo: --idle and --drain: want no negative time")
	case c.workers != 0 && !canPass:
		return usageErrorf("echo: --workers %v: this system cannot pass connections between processes; use 0", &c.workers)
	case c.dispatch != master.RoundRobin && c.dispatch != master.LeastLoaded:
		return usageErrorf("echo: --dispatch %q: want %s or %s", c.dispatch, master.RoundRobin, master.LeastLoaded)
	}
	if c.workers == autoWorkers {
		c.workers = workersValue(min(runtime.GOMAXPROCS(0), master.MaxWorkers))
	}
	return nil
}

// echo serves until ctx is done and the clients have left.
func (a *app) echo(ctx context.Context, c *echoConfig) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.workers > 0 {
		return a.echoWorkers(ctx, c)
	}
	if c.maxConns == 0 {
		c.maxConns = connLimit(c.loops)
	}
	group, err := evloop.NewGroup(c.loops, evloop.Config{
		Backend: c.backend, MaxConns: c.maxConns, Idle: c.idle, Log: a.log,
	})
	if err != nil {
		return usageErrorf("%w", err)
	}
	ln, err := group.Listen(c.listen.Network, c.listen.Address, c.handler(a.log))
	if err != nil {
		return err
	}
	result := echoListening{
		Addr:    client.Addr{Network: c.listen.Network, Address: ln.Addr().String()}.String(),
		Backend: group.Loops()[0].Stats().Backend,
		Loops:   c.loops,
	}
	show := make(chan os.Signal, 1)
	signal.Notify(show, syscall.SIGUSR1) // before somebody knows whom to send it
	defer signal.Stop(show)
	if err := a.printListening(result); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		group.Post(func(l *evloop.Loop) { l.Drain(c.drain) })
	})()
	done := make(chan struct{})
	defer close(done)
	go a.showClients(group, show, done)
	return group.Run(context.WithoutCancel(ctx))
}

func (a *app) printListening(result echoListening) error {
	return a.printResult(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "listening on %s\n", result.Addr)
		return err
	})
}

// connLimit is the descriptor limit less what the process needs itself.
func connLimit(loops int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return max(1, int(min(limit.Cur, 1<<30))-16-4*loops)
}

// showClients logs every client when a signal asks for it.
func (a *app) showClients(group *evloop.Group, show <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-show:
			group.Post(func(l *evloop.Loop) {
				for _, c := range l.Conns() {
					logClient(a.log, "client connected", c, nil)
				}
				s := l.Stats()
				a.log.Info("loop", "backend", s.Backend, "conns", s.Conns, "turns", s.Turns, "sleeps", s.Sleeps,
					"registrations", s.Registrations, "longest_turn", s.LongestTurn, "longest_work", s.LongestWork,
					"slow_callbacks", s.SlowCallbacks, "turns_by_log2_us", s.TurnTimes, "work_by_log2_us", s.WorkTimes)
			})
		}
	}
}

// handler returns what makes the handler of each client.
func (c *echoConfig) handler(log *slog.Logger) func() evloop.Handler {
	ended := func(conn *evloop.Conn, err error) { logClient(log, "client left", conn, err) }
	if !c.lines {
		h := &echoHandler{ended: ended, greet: c.greet}
		return func() evloop.Handler { return h }
	}
	return func() evloop.Handler {
		if c.greet {
			return &greetingLines{c.newLines(ended)}
		}
		return c.newLines(ended)
	}
}

// greeting is the first line when this process serves.
const greeting = "worker 0\n"

// greetingLines greets first.
type greetingLines struct{ *evloop.Lines }

// Open greets.
func (h *greetingLines) Open(c *evloop.Conn) {
	h.Lines.Open(c)
	if _, err := c.Write([]byte(greeting)); err != nil {
		c.Abort(err)
	}
}

func (c *echoConfig) newLines(ended func(*evloop.Conn, error)) *evloop.Lines {
	return &evloop.Lines{
		Max:   int(c.maxLine),
		Ended: ended,
		Line: func(conn *evloop.Conn, line []byte) error {
			_, err := conn.Write(line)
			return err
		},
	}
}

// echoHandler has no state of its own and serves all clients.
type echoHandler struct {
	evloop.Base
	ended func(*evloop.Conn, error)
	greet bool
}

// Open greets.
func (h *echoHandler) Open(c *evloop.Conn) {
	if !h.greet {
		return
	}
	if _, err := c.Write([]byte(greeting)); err != nil {
		c.Abort(err)
	}
}

// Data answers with what came. It cannot queue without bound: the loop stops
// reading from a client that does not read.
func (h *echoHandler) Data(c *evloop.Conn, b []byte) int {
	if _, err := c.Write(b); err != nil {
		c.Abort(err)
	}
	return len(b)
}

func (h *echoHandler) Close(c *evloop.Conn, err error) { h.ended(c, err) }

func logClient(log *slog.Logger, what string, c *evloop.Conn, err error) {
	s := c.Stats()
	peer := "local"
	if a := c.RemoteAddr(); a != nil && a.String() != "" {
		peer = a.String()
	}
	args := []any{"peer", peer, "connected_at", s.ConnectedAt.UTC().Format(time.RFC3339Nano),
		"bytes_in", s.BytesIn, "bytes_out", s.BytesOut, "lines", s.Frames, "duration", s.Duration}
	if err != nil {
		args = append(args, "err", err)
	}
	log.Info(what, args...)
}
