package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"ndferry/client"
	"ndferry/internal/handover"
	"ndferry/internal/master"
	"ndferry/internal/session"
	"ndferry/internal/worker"
	"ndferry/store/open"
)

// canPass tells that this system can pass connections between processes as it is done here.
const canPass = true

// stepHook is nil but in tests, which are masters and workers themselves.
var stepHook handover.Hook

// workerStart is what a worker process is told to do.
type workerStart struct {
	Serve *serveStart `json:"serve,omitzero"`
	Echo  *echoStart  `json:"echo,omitzero"`
}

type serveStart struct {
	Store      string       `json:"store"`
	Owner      string       `json:"owner"` // of transfers
	Driver     string       `json:"driver"`
	Loops      int          `json:"loops"`
	Memory     int64        `json:"memory"`
	PerAddress int          `json:"per_address"`
	Validate   string       `json:"validate"`
	Drain      milliseconds `json:"drain_ms"`
}

// milliseconds is a time that a worker is told.
type milliseconds int64

func inMilliseconds(d time.Duration) milliseconds {
	return milliseconds((d + time.Millisecond - 1) / time.Millisecond)
}

func (m milliseconds) duration() time.Duration { return time.Duration(m) * time.Millisecond }

// workerCommand starts this program again.
func (a *app) workerCommand() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "worker")
	cmd.Args[0] = os.Args[0]
	cmd.Stderr = os.Stderr
	return cmd
}

// serveWorkers is serve as a master of n workers.
func (a *app) serveWorkers(ctx context.Context, flags serveFlags, addrs []client.Addr, n int) (err error) {
	lock, err := open.Lock(ctx, flags.store)
	if err != nil {
		return storeError(flags.store, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	info := serveInfo{Store: flags.store, PID: os.Getpid()}
	listeners, err := a.listen(ctx, flags, addrs, &info)
	if err != nil {
		return err
	}
	memory := int64(flags.budget)
	if memory <= 0 {
		memory = worker.DefaultMemory()
	}
	m, err := master.New(master.Config{
		Workers: n, Command: a.workerCommand, Listeners: listeners, Dispatch: flags.dispatch, Conns: flags.conns, PerWorker: worker.DefaultConns(), Drain: flags.drain, Log: a.log, Step: stepHook,
		Start: func(index int, _ uint32) []byte {
			return encodeStart(workerStart{Serve: &serveStart{
				Store: flags.store, Owner: worker.OwnerName(info.PID, index), Driver: flags.driver, Memory: memory / int64(n),
				Loops:      max(1, runtime.GOMAXPROCS(0)/n),
				PerAddress: (worker.DefaultPerAddress + n - 1) / n, Validate: flags.validate, Drain: inMilliseconds(flags.drain),
			}})
		},
	})
	if err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	control, err := a.openControl(flags.control, func() any { return statusOf(info, m.Status()) })
	if err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	defer control.Close()
	return startedError(a.runMaster(ctx, m, func() error { return a.printServing(info) }))
}

// runMaster runs m until ctx ends, and says when it is ready. A second signal kills the workers and ends this process.
func (a *app) runMaster(ctx context.Context, m *master.Master, say func() error) error {
	signals := make(chan os.Signal, 2) // from the start: between the first and the system's own handling there is no gap
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	interrupted := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	aborted := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		if interrupted.Err() != nil {
			<-signals
		}
		s := <-signals
		close(aborted)
		m.Abort()
		signal.Reset(s)
		_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
	})()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-m.Ready():
	}
	if m.Serving() {
		if err := say(); err != nil {
			cancel(err)
			return errors.Join(err, <-ended)
		}
	}
	err := <-ended
	select {
	case <-aborted: // its workers are dead, and the signal is about to end this process
		select {}
	default:
		return err
	}
}

// startedError gives a worker's reason not to start the exit code that it said.
func startedError(err error) error {
	var why *master.StartError
	if errors.As(err, &why) {
		return &ExitError{Code: why.Code, Err: err}
	}
	return err
}

func listenersOf(ln ...net.Listener) []net.Listener { return ln }

func encodeStart(s workerStart) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return b
}

// newWorkerCmd is what a master starts.
func newWorkerCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "worker", Short: "Serve the connections that a master passes", Hidden: true, Args: arguments(0, 0),
		Example: "  ndferry serve --store /srv/arrays --workers 2    # starts two",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.worker(cmd.Context()) },
	}
}

// worker is a worker process. It has a channel to its master on descriptor 3.
func (a *app) worker(ctx context.Context) error {
	// An interrupt at a terminal goes to all: what a second one means is for the master to say, who would otherwise see its workers die.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	ch, err := handover.Inherited(context.WithoutCancel(ctx), handover.WorkerConfig{Step: stepHook})
	if err != nil {
		return usageErrorf("worker: only a master starts one: %w", err)
	}
	a.log = a.log.With("worker", ch.Index())
	var start workerStart
	if err := json.Unmarshal(ch.Start(), &start); err != nil {
		return a.workerFailed(ch, err)
	}
	switch {
	case start.Serve != nil:
		return a.workerServe(ctx, ch, start.Serve)
	case start.Echo != nil:
		return a.workerEcho(ctx, ch, start.Echo)
	}
	return a.workerFailed(ch, errors.New("worker: nothing to serve"))
}

// workerFailed tells the master why this worker cannot serve.
func (a *app) workerFailed(ch *handover.Worker, why error) error {
	return errors.Join(why, ch.Fail(context.Background(), ExitCode(why), why), ch.Close())
}

func (a *app) workerServe(ctx context.Context, ch *handover.Worker, cfg *serveStart) (err error) {
	st, err := open.Open(ctx, cfg.Store, open.Shared(cfg.Owner))
	if err != nil {
		return a.workerFailed(ch, storeError(cfg.Store, err))
	}
	defer func() { err = errors.Join(err, st.Close(), ch.Close()) }()
	srv := worker.New(st, worker.Config{
		Session: session.Config{Software: "ndferry " + Version, Validate: cfg.Validate}, Log: a.log,
		Owner: cfg.Owner, Driver: cfg.Driver, Loops: cfg.Loops, Memory: cfg.Memory, PerAddress: cfg.PerAddress,
	})
	defer spareForLoops(cfg.Driver, st)()
	if err := ch.Ready(ctx); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return srv.Attend(ctx, ch, cfg.Drain.duration())
}
