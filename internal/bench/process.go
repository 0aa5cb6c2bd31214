package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxClientOutput bounds what is kept of a client's standard output.
const maxClientOutput = 16 << 20

// usage is what a group of processes has used so far.
type usage struct {
	cpu float64 // seconds, with children that have ended and were waited for
	rss int64   // peak bytes, summed over the processes that live
}

// runningSide is a side with its servers up. Owned by the goroutine of Run.
type runningSide struct {
	Side
	servers []*server
}

type server struct {
	name string
	cmd  *exec.Cmd
	addr string        // what ReadyLine caught; read after startServer
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; read after done
}

func startSide(ctx context.Context, side Side, config Config) (*runningSide, error) {
	r := &runningSide{Side: side}
	for _, p := range side.Servers {
		s, err := startServer(ctx, p, config)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bench: side %s: %w", side.Name, err), r.stop())
		}
		r.servers = append(r.servers, s)
	}
	return r, nil
}

// round runs the client once, between two looks at the servers.
func (r *runningSide) round(ctx context.Context, config Config) (Round, error) {
	before, err := r.serverUsage(true)
	if err != nil {
		return Round{}, fmt.Errorf("bench: side %s: %w", r.Name, err)
	}
	side := r.Side
	var pids []string
	for _, s := range r.servers {
		pids = append(pids, strconv.Itoa(s.cmd.Process.Pid))
		if s.addr != "" {
			side.Client.Env = append(slices.Clip(side.Client.Env), AddrEnv+"="+s.addr)
		}
	}
	side.Client.Env = append(slices.Clip(side.Client.Env), PidsEnv+"="+strings.Join(pids, ","))
	round, err := runClient(ctx, side, config)
	if err != nil {
		return Round{}, fmt.Errorf("bench: side %s: client: %w", r.Name, err)
	}
	after, err := r.serverUsage(false)
	if err != nil {
		return Round{}, fmt.Errorf("bench: side %s: %w", r.Name, err)
	}
	round.ServerCPU = after.cpu - before.cpu
	round.ServerRSS = after.rss
	return round, nil
}

func (r *runningSide) serverUsage(resetPeak bool) (total usage, err error) {
	for _, s := range r.servers {
		select {
		case <-s.done:
			return usage{}, fmt.Errorf("server %s ended: %v", s.name, s.err)
		default:
		}
		u, err := groupUsage(s.cmd.Process.Pid, resetPeak)
		if err != nil {
			return usage{}, fmt.Errorf("server %s: %w", s.name, err)
		}
		total.cpu += u.cpu
		total.rss += u.rss
	}
	return total, nil
}

// stop kills the servers, the last started first.
func (r *runningSide) stop() error {
	for i := len(r.servers) - 1; i >= 0; i-- {
		s := r.servers[i]
		if err := killGroup(s.cmd.Process.Pid); err != nil {
			return fmt.Errorf("bench: side %s: kill %s: %w", r.Name, s.name, err)
		}
		<-s.done
	}
	r.servers = nil
	return nil
}

// killGroup kills a process group; one that is gone already is no error.
func killGroup(pgid int) error {
	if err := syscall.Kill(-pgid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

func (p Proc) command() *exec.Cmd {
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Dir = p.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A process that left the group may hold a pipe open for ever.
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func startServer(ctx context.Context, p Proc, config Config) (*server, error) {
	s := &server{name: p.Path, cmd: p.command(), done: make(chan struct{})}
	s.cmd.Stderr = config.Log
	lineSeen := make(chan string, 1) // what it says of its address
	if p.ReadyLine != "" {
		pattern, err := regexp.Compile(p.ReadyLine)
		if err != nil {
			return nil, fmt.Errorf("server %s: ready line: %w", p.Path, err)
		}
		// A plain pipe: cmd.Wait closes the one of StdoutPipe too early.
		r, w := io.Pipe()
		s.cmd.Stdout = w
		go watchLines(r, pattern, lineSeen)
	}
	endOutput := func() {
		if w, ok := s.cmd.Stdout.(*io.PipeWriter); ok {
			w.Close()
		}
	}
	if err := s.cmd.Start(); err != nil {
		endOutput()
		return nil, fmt.Errorf("server: %w", err)
	}
	go func() {
		s.err = s.cmd.Wait()
		endOutput()
		close(s.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, config.ReadyTimeout)
	defer cancel()
	if p.ReadyProbe != nil {
		go func() {
			if pollUntil(ctx, p.ReadyProbe) {
				lineSeen <- ""
			}
		}()
	}
	select {
	case s.addr = <-lineSeen:
		return s, nil
	case <-s.done:
		err := killGroup(s.cmd.Process.Pid)
		return nil, errors.Join(fmt.Errorf("server %s ended before it was ready: %v", p.Path, s.err), err)
	case <-ctx.Done():
		err := killGroup(s.cmd.Process.Pid)
		<-s.done
		return nil, errors.Join(fmt.Errorf("server %s was not ready: %w", p.Path, ctx.Err()), err)
	}
}

// watchLines sends to seen, at the first line that matches, what the last
// group of the pattern matched, and reads on to the end, so that the server
// never waits for a reader.
func watchLines(r io.Reader, pattern *regexp.Regexp, seen chan<- string) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadSlice('\n')
		if match := pattern.FindSubmatch(bytes.TrimRight(line, "\r\n")); seen != nil && match != nil {
			addr := ""
			if len(match) > 1 {
				addr = string(match[len(match)-1])
			}
			seen <- addr
			seen = nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

// pollUntil calls probe until it returns nil and reports whether it did
// before the context ended.
func pollUntil(ctx context.Context, probe func(context.Context) error) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for probe(ctx) != nil {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

func runClient(ctx context.Context, side Side, config Config) (Round, error) {
	cmd := side.Client.command()
	var stdout, stderr limitedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ctx, cancel := context.WithTimeout(ctx, config.RoundTimeout)
	defer cancel()

	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Round{}, err
	}
	unwatch := context.AfterFunc(ctx, func() { _ = killGroup(cmd.Process.Pid) })
	err := cmd.Wait()
	took := time.Since(start)
	unwatch()
	killErr := killGroup(cmd.Process.Pid) // what the client left behind in its group
	if ctx.Err() != nil {
		return Round{}, fmt.Errorf("%s did not end: %w", side.Client.Path, ctx.Err())
	}
	if err := errors.Join(err, killErr); err != nil {
		return Round{}, fmt.Errorf("%s: %w: %s", side.Client.Path, err, bytes.TrimSpace(stderr.Bytes()))
	}
	round := Round{Side: side.Name, Seconds: took.Seconds(), Bytes: side.Bytes, Start: start}
	state := cmd.ProcessState
	round.ClientCPU = (state.UserTime() + state.SystemTime()).Seconds()
	round.ClientRSS = maxRSS(state.SysUsage().(*syscall.Rusage))
	if side.Values != nil {
		if round.Values, err = side.Values(stdout.Bytes()); err != nil {
			return Round{}, fmt.Errorf("figures of %s: %w", side.Client.Path, err)
		}
	}
	return round, nil
}

// maxRSS returns the peak memory in bytes; macOS counts in bytes already.
func maxRSS(r *syscall.Rusage) int64 {
	if runtime.GOOS == "darwin" {
		return int64(r.Maxrss)
	}
	return int64(r.Maxrss) << 10
}

// limitedBuffer keeps the first maxClientOutput bytes and drops the rest.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, maxClientOutput-b.Len()))])
	return len(p), nil
}
