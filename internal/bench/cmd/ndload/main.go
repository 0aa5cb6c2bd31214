// Ndload is a crowd of clients for benchmarks of a server: bulk transfers, small ones, one that asks for lists, idle ones, and
// those of every bad habit, at once. It ends in time or says what it waits for. It writes one line of JSON: numbers by name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"ndferry/array"
	"ndferry/client"
)

// load is one run.
type load struct {
	addr    string
	bulk    int
	bytes   int
	op      string
	list    bool
	asker   bool
	small   bool
	idle    int
	slow    int
	silent  int
	aborts  int
	total   int64
	bare    bool
	away    bool
	half    int
	rate    float64
	hold    int
	resets  bool
	pinging bool
	cell    int
	seconds float64
	alone   float64
	limit   time.Duration

	ctx      context.Context
	counting atomic.Bool // of latencies, and of what -ping moves
	mu       sync.Mutex
	figures  map[string]float64 // guarded by mu
	moved    []atomic.Int64     // bytes by bulk client
	took     atomic.Int64       // ns of counting
	phase    atomic.Value       // string; what is being done
	failed   func(error)        // any goroutine
}

// doing says what the load waits for, should it not end in time.
func (l *load) doing(format string, args ...any) { l.phase.Store(fmt.Sprintf(format, args...)) }

func main() {
	l := &load{figures: map[string]float64{}}
	flag.StringVar(&l.addr, "addr", client.DefaultAddr, "server")
	flag.IntVar(&l.bulk, "bulk", 0, "clients that transfer arrays without end")
	flag.IntVar(&l.bytes, "bytes", 32<<20, "bytes of their arrays")
	flag.StringVar(&l.op, "op", "put", "put or get")
	flag.BoolVar(&l.list, "list", false, "a client in a process of its own asks for a list and for an array's description 50 times a second")
	flag.BoolVar(&l.asker, "asker", false, "be the process of -list")
	flag.BoolVar(&l.small, "small", false, "one client puts and gets 4 KiB without end")
	flag.IntVar(&l.idle, "idle", 0, "clients that say HELLO and nothing more")
	flag.IntVar(&l.slow, "slow", 0, "clients that send a byte a second of a request")
	flag.IntVar(&l.silent, "silent", 0, "clients that connect and say nothing, again and again")
	flag.IntVar(&l.aborts, "aborts", 0, "clients that connect, begin a frame and reset, again and again")
	flag.Int64Var(&l.total, "abort-total", 0, "go on until so many connections were reset, however long")
	flag.BoolVar(&l.away, "aborts-elsewhere", false, "reset connections to a process that only accepts and closes: what the resetting itself costs")
	flag.BoolVar(&l.bare, "bare", false, "be that process")
	flag.IntVar(&l.half, "half", 0, "clients that say HELLO, begin a request, and end their side of the connection")
	flag.Float64Var(&l.rate, "abort-rate", 0, "resets in a second, of all together; 0 is as fast as they can")
	flag.IntVar(&l.hold, "abort-hold", 0, "connections that they keep open, together, before they reset the oldest: a flood of connections")
	flag.BoolVar(&l.resets, "resetter", false, "be the process of -aborts")
	flag.BoolVar(&l.pinging, "ping", false, "one connection is never idle, with eight streams of -op and arrays of -bytes, and sends PING between them")
	flag.IntVar(&l.cell, "cell", 4<<20, "bytes of a cell of -ping")
	flag.DurationVar(&l.limit, "limit", 0, "give up after so long; 0 is a minute more than it should take, with 1,000 resets a second")
	flag.Float64Var(&l.seconds, "seconds", 5, "length, after all have connected; the first fifth is not counted")
	flag.Float64Var(&l.alone, "alone", 0, "seconds in which the bulk clients are measured without the others, before and after")
	flag.Parse()
	if l.bare {
		fmt.Fprintln(os.Stderr, "ndload:", acceptAndClose())
		os.Exit(1)
	}
	if l.limit == 0 {
		l.limit = time.Minute + time.Duration((1.2*l.seconds+2.4*l.alone+float64(l.total)/1000)*float64(time.Second))
	}
	l.doing("starting")
	time.AfterFunc(l.limit, func() {
		fmt.Fprintf(os.Stderr, "ndload: not done after %v: %s\n", l.limit, l.phase.Load())
		os.Exit(1)
	})
	if err := l.run(); err != nil {
		fmt.Fprintln(os.Stderr, "ndload:", err)
		os.Exit(1)
	}
}

func (l *load) run() error {
	a, err := client.ParseAddr(l.addr)
	if err != nil {
		return err
	}
	if l.resets {
		return l.reset(a.Network, a.Address)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.ctx = ctx
	defer cancel()
	server := l.watched()
	l.doing("storing the arrays")
	if err := l.prepare(); err != nil {
		return err
	}
	before := server.quiet()
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	l.failed = func(err error) {
		select {
		case failed <- err:
		default:
		}
		cancel()
	}
	start := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				l.failed(err)
			}
		})
	}
	l.moved = make([]atomic.Int64, max(l.bulk, 1))
	bulk := func() {
		for i := range l.bulk {
			start(func() error { return l.transfer(i) })
		}
	}
	if l.alone > 0 {
		bulk()
		l.measureAlone("before")
	}
	crowd, err := l.gather(a.Network, a.Address)
	if err != nil {
		return err
	}
	if l.alone == 0 {
		bulk()
	}
	for _, c := range []struct {
		is  bool
		run func() error
	}{{l.asker, l.ask}, {l.list, l.askElsewhere}, {l.small, l.tiny}, {l.pinging, func() error { return l.saturate(a.Network, a.Address) }}} {
		if c.is {
			start(c.run)
		}
	}
	wait(ctx, l.length()/5)
	l.counting.Store(true)
	moved := l.measure(func() {
		wait(ctx, l.length())
		for ctx.Err() == nil && crowd.resets != nil && crowd.resets.count.Load() < l.total {
			l.doing("%d of %d connections were reset", crowd.resets.count.Load(), l.total)
			if crowd.resets.ended() {
				l.failed(errors.New("the process that resets connections has ended"))
			}
			wait(ctx, 10*time.Millisecond)
		}
	})
	l.counting.Store(false)
	l.took.Store(int64(moved.took))
	if l.alone > 0 {
		l.doing("the crowd leaves")
		crowd.leave(l)
		l.measureAlone("after")
	}
	cancel()
	l.doing("the transfers end")
	wg.Wait()
	l.doing("the crowd leaves")
	crowd.leave(l)
	select {
	case err := <-failed:
		return err
	default:
	}
	if l.pinging { // which counts for itself
		moved.bytes = []int64{l.moved[0].Load()}
	}
	l.sum(moved)
	l.count(server, before)
	return json.MarshalWrite(os.Stdout, l.figures, json.Deterministic(true))
}

// count notes what the server still has, and had.
func (l *load) count(s server, before int) {
	if before == 0 {
		return
	}
	l.doing("the server gives descriptors back")
	after := s.settled(before)
	l.figures["files_before"], l.figures["files_after"], l.figures["files_left"] = float64(before), float64(after), float64(after-before)
	l.figures["server_peak_rss_MiB"] = s.peak()
}

func (l *load) length() time.Duration { return time.Duration(l.seconds * float64(time.Second)) }

// watched is the server whose descriptors are counted. The process of -list does not count: those of the crowd beside it would not go before the
// crowd does, which waits for this process.
func (l *load) watched() server {
	if l.asker {
		return ""
	}
	return serverOf(l.addr)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (l *load) dial() (*client.Client, error) {
	return client.Dial(context.Background(), l.addr, client.Config{Timeout: time.Minute})
}

// counted counts cells as they are sent or arrive, so that a slow transfer counts before its end.
type counted struct {
	client.Array
	n *atomic.Int64
}

// Cell implements client.Source.
func (c *counted) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	p, err := c.Array.Cell(g, i, buf)
	c.n.Add(int64(len(p)))
	return p, err
}

// prepare stores the arrays that the load gets or replaces: a store may keep a descriptor for each.
func (l *load) prepare() error {
	c, err := l.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	sizes := map[string]int{}
	for i := range l.bulk {
		sizes[bulkName(i)] = l.bytes
	}
	if l.list {
		sizes["asked"] = 100
	}
	if l.small {
		sizes["tiny"] = 4 << 10
	}
	if l.pinging {
		for i := range pingStreams {
			sizes[bulkName(i)] = max(l.bytes/l.cell, 1) * l.cell
		}
	}
	for name, n := range sizes {
		opts := client.PutOptions{}
		if l.pinging {
			opts.Cell = array.Shape{min(l.cell, n)}
		}
		if _, err := c.Put(context.Background(), name, l.array(n), opts); err != nil {
			return err
		}
	}
	return nil
}

func bulkName(i int) string { return fmt.Sprintf("bulk/%d", i) }

func (l *load) transfer(i int) error {
	c, err := l.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	a, name := l.array(l.bytes), bulkName(i)
	source := &counted{a, &l.moved[i]}
	for l.ctx.Err() == nil {
		if l.op == "get" {
			before := int64(0)
			progress := func(done, _ int64) {
				l.moved[i].Add(done - before)
				before = done
			}
			if _, err := c.Get(l.ctx, name, client.GetOptions{Into: a.Data, Progress: progress}); err != nil {
				return err
			}
			continue
		}
		if _, err := c.PutFrom(l.ctx, name, source, client.PutOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) array(n int) client.Array {
	dt, err := array.ParseDType("|u1")
	if err != nil {
		panic(err)
	}
	a := client.Array{DType: dt, Shape: array.Shape{n}, Data: make([]byte, n)}
	a.Data[0] = 1 // a constant array would not travel
	return a
}

// latency writes the percentiles of what f takes.
func (l *load) latency(name string, times []time.Duration) {
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures[name+"_p50_us"] = float64(times[len(times)/2].Nanoseconds()) / 1e3
	l.figures[name+"_p99_us"] = float64(times[len(times)*99/100].Nanoseconds()) / 1e3
	l.figures[name+"_n"] = float64(len(times))
}

// askElsewhere runs the asking client as a process of its own, as a user's would be: in this one it would wait for its turn among
// the goroutines that send.
func (l *load) askElsewhere() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := exec.Command(self, "-addr", l.addr, "-asker", "-seconds", fmt.Sprint(l.seconds), "-limit", l.limit.String()).Output()
	if err != nil {
		return fmt.Errorf("the client that asks: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return json.Unmarshal(out, &l.figures)
}

func (l *load) ask() error {
	c, err := l.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Put(context.Background(), "asked", l.array(100), client.PutOptions{}); err != nil {
		return err
	}
	var lists, stats []time.Duration
	for l.ctx.Err() == nil {
		wait(l.ctx, 20*time.Millisecond)
		begin := time.Now()
		if _, err := c.List(l.ctx, ""); err != nil {
			break
		}
		middle := time.Now()
		if _, err := c.Stat(l.ctx, "asked"); err != nil {
			break
		}
		if l.counting.Load() {
			lists, stats = append(lists, middle.Sub(begin)), append(stats, time.Since(middle))
		}
	}
	l.latency("ls", lists)
	l.latency("stat", stats)
	return nil
}

func (l *load) tiny() error {
	c, err := l.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	a := l.array(4 << 10)
	var puts, gets []time.Duration
	for l.ctx.Err() == nil {
		begin := time.Now()
		if _, err := c.Put(l.ctx, "tiny", a, client.PutOptions{}); err != nil {
			break
		}
		middle := time.Now()
		if _, err := c.Get(l.ctx, "tiny", client.GetOptions{Into: a.Data}); err != nil {
			break
		}
		if l.counting.Load() {
			puts, gets = append(puts, middle.Sub(begin)), append(gets, time.Since(middle))
		}
	}
	l.latency("put4k", puts)
	l.latency("get4k", gets)
	return nil
}
