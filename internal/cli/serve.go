package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ndferry/client"
	"ndferry/internal/master"
	"ndferry/internal/session"
	"ndferry/internal/worker"
	"ndferry/store"
	"ndferry/store/open"
)

// serveInfo is the JSON of ndferry serve, written once when it is ready.
type serveInfo struct {
	Store  string   `json:"store"`
	Listen []string `json:"listen"` // the addresses that clients take, with real ports
	PID    int      `json:"pid"`
}

// serveFlags are the flags of serve.
type serveFlags struct {
	store    string
	memLimit sizeValue
	listen   []string
	workers  workersValue
	dispatch string
	control  controlValue
	drain    time.Duration
	mode     modeValue
	insecure bool
	driver   string
	budget   sizeValue
	conns    int
	validate string
}

func newServeCmd(a *app) *cobra.Command {
	flags := serveFlags{mode: 0o600, workers: autoWorkers}
	cmd := &cobra.Command{
		Use:   "serve --store DIR|mem:",
		Short: "Run a server",
		Long: `Serve a directory, which is made when it is missing (its parent must exist), or
memory. One server may have a directory open. When the server is ready it
writes one line to standard output, with the real port for a port 0; log lines
go to standard error. SIGTERM and SIGINT let what is in flight finish within
the time of --drain; a second one ends the server at once.

A directory is served by worker processes: this one accepts connections, passes
each to a worker and starts a worker again that has ended. A transfer belongs
to one worker; a connection that asks another one for it is passed on. When
this process dies its workers finish what they have within the time of --drain.
'ndferry status' tells how all of them do, on the socket of --control.

Nobody is authenticated yet: whoever reaches a TCP address may read, replace
and remove every array. An address that other machines could reach needs
--insecure-no-auth. A Unix socket is for this user and root unless
--socket-mode lets others write to it; unix://@name is for this user and root.

Limits: ` + worker.LimitsHelp + `.`,
		Example: `  ndferry serve --store /srv/arrays
  ndferry serve --store mem: --listen tcp://127.0.0.1:0 --listen unix:///run/ndferry/sock`,
		Args: arguments(0, 0),
	}
	cmd.Flags().StringVar(&flags.store, "store", "", "where arrays are kept: a directory, or mem: for memory")
	cmd.Flags().Var(&flags.memLimit, "mem-limit", "most that arrays in mem: may take, and what is kept for the next for a minute; 0B is half of the memory that this process may use")
	cmd.Flags().StringArrayVar(&flags.listen, "listen", []string{client.DefaultAddr}, "`ADDR` to listen on; may be repeated")
	cmd.Flags().Var(&flags.workers, "workers", "worker processes; 0 serves in this one; auto is one for each processor, and 0 for mem:")
	cmd.Flags().StringVar(&flags.dispatch, "dispatch", master.RoundRobin, "which worker gets a connection: round-robin or least-loaded")
	addControlFlag(cmd, &flags.control)
	cmd.Flags().DurationVar(&flags.drain, "drain", 30*time.Second, "how long what is in flight may take to finish at the end")
	cmd.Flags().Var(&flags.mode, "socket-mode", "permission of Unix sockets")
	cmd.Flags().Var(&flags.budget, "buffers", "most that arrays on their way to and from the store may take; 0B is a quarter of the memory that this process may use, at most 2 GiB")
	cmd.Flags().IntVar(&flags.conns, "max-conns", 0, "most connections at once; more wait; 0 is what the limit of descriptors allows")
	cmd.Flags().StringVar(&flags.driver, "driver", worker.LoopDriver, "what drives connections: loop, which is an event loop for each processor, or goroutine")
	cmd.Flags().StringVar(&flags.validate, "validate", session.ValidateFull,
		"what is checked of a compressed chunk before it counts as received: full decodes it, header only looks at its header")
	cmd.Flags().BoolVar(&flags.insecure, "insecure-no-auth", false, "allow addresses that other machines may reach")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		addrs, err := flags.check()
		if err != nil {
			return err
		}
		return a.serve(cmd.Context(), flags, addrs)
	}
	return cmd
}

// check returns the addresses to listen on.
func (f *serveFlags) check() ([]client.Addr, error) {
	switch {
	case f.store == "":
		return nil, usageErrorf("serve: --store is missing: a directory, or mem: for memory")
	case f.memLimit != 0 && f.store != "mem:":
		return nil, usageErrorf("serve: --mem-limit is for --store mem:, not %s", f.store)
	case f.workers > 0 && f.memory():
		return nil, usageErrorf("serve: --workers %v: memory lives in one process, and its arrays with it; use 0, or a directory", &f.workers)
	case f.workers > 0 && !canPass:
		return nil, usageErrorf("serve: --workers %v: this system cannot pass connections between processes; use 0", &f.workers)
	case f.dispatch != master.RoundRobin && f.dispatch != master.LeastLoaded:
		return nil, usageErrorf("serve: --dispatch %q: want %s or %s", f.dispatch, master.RoundRobin, master.LeastLoaded)
	case f.driver != "" && f.driver != worker.LoopDriver && f.driver != worker.GoroutineDriver:
		return nil, usageErrorf("serve: --driver %q: want %s or %s", f.driver, worker.LoopDriver, worker.GoroutineDriver)
	case f.conns < 0:
		return nil, usageErrorf("serve: --max-conns %d: want a number that is not negative", f.conns)
	case f.validate != session.ValidateFull && f.validate != session.ValidateHeader:
		return nil, usageErrorf("serve: --validate %q: want full or header", f.validate)
	case f.drain < 0:
		return nil, usageErrorf("serve: --drain %v: want a time that is not negative", f.drain)
	}
	var addrs []client.Addr
	for _, text := range f.listen {
		addr, err := client.ParseAddr(text)
		if err != nil {
			return nil, usageErrorf("serve: --listen: %w", err)
		}
		if !addr.Loopback() && !f.insecure {
			return nil, refuseRemote(addr)
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

func refuseRemote(addr client.Addr) error {
	return usageErrorf("serve: --listen %v: other machines may reach it and nobody is authenticated: "+
		"whoever connects may read, replace and remove every array; listen on 127.0.0.1 or a Unix socket, or accept that with --insecure-no-auth", addr)
}

func (a *app) serve(ctx context.Context, flags serveFlags, addrs []client.Addr) (err error) {
	url := flags.store
	if flags.memLimit != 0 {
		url = fmt.Sprintf("mem:?limit=%d", int64(flags.memLimit))
	}
	if n := flags.processes(); n > 0 {
		return a.serveWorkers(ctx, flags, addrs, n)
	}
	st, err := open.Open(ctx, url)
	if err != nil {
		return storeError(flags.store, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	srv := worker.New(st, worker.Config{
		Session: session.Config{Software: "ndferry " + Version, Validate: flags.validate}, Log: a.log,
		Driver: flags.driver, Memory: int64(flags.budget), Conns: flags.conns,
	})
	defer spareForLoops(flags.driver, st)()
	info := serveInfo{Store: flags.store, PID: os.Getpid()}
	listeners, err := a.listen(ctx, flags, addrs, &info)
	if err != nil {
		return err
	}
	started := a.now()
	control, err := a.openControl(flags.control, func() any {
		s := master.Status{Since: started, Connections: srv.Connections(), Accepted: srv.Accepted(), Workers: []master.WorkerStatus{}}
		return statusOf(info, s)
	})
	if err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	defer control.Close()
	failed := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() { failed <- srv.Serve(ln) }()
	}
	if err = a.printServing(info); err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), flags.drain)
	defer cancel()
	if cut := srv.Shutdown(drain); cut != nil {
		a.log.Warn("serve: connections were cut; their clients may try again", "drain", flags.drain)
	}
	return err
}

// spareForLoops gives the Go scheduler a processor more than there are when event loops drive a store that waits for a disk, until what it
// returns is called. A loop asleep holds one in the scheduler's eyes and an operation that waits for the disk another; with none to spare the
// runtime's monitor looks every 20 µs which it may take away. To be called after worker.New.
func spareForLoops(driver string, st store.Store) (done func()) {
	if driver == worker.GoroutineDriver || st.Instant() {
		return func() {}
	}
	return spareProcessors(1)
}

func (a *app) printServing(info serveInfo) error {
	return a.printResult(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "ndferry: serving %s on %s\n", info.Store, strings.Join(info.Listen, ", "))
		return err
	})
}

func closeAll(listeners []net.Listener) (err error) {
	for _, ln := range listeners {
		err = errors.Join(err, ln.Close())
	}
	return err
}

// memory tells that the store is memory.
func (f *serveFlags) memory() bool { return open.InMemory(f.store) }

// processes is how many workers there are to be.
func (f *serveFlags) processes() int {
	switch {
	case f.workers != autoWorkers:
		return int(f.workers)
	case f.memory() || !canPass:
		return 0
	}
	return min(runtime.GOMAXPROCS(0), master.MaxWorkers)
}

// listen opens all listeners or none, and writes their addresses to info.
func (a *app) listen(ctx context.Context, flags serveFlags, addrs []client.Addr, info *serveInfo) (listeners []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(listeners)
		}
	}()
	var remote []string
	for _, addr := range addrs {
		ln, err := worker.Listen(ctx, addr.Network, addr.Address, worker.ListenConfig{SocketMode: fs.FileMode(flags.mode)})
		if err != nil {
			return listeners, fmt.Errorf("serve: %w", err)
		}
		listeners = append(listeners, ln)
		real := client.Addr{Network: addr.Network, Address: ln.Addr().String()}
		info.Listen = append(info.Listen, real.String())
		if real.Loopback() {
			continue
		}
		if !flags.insecure { // a name that was said to be of this host
			return listeners, refuseRemote(real)
		}
		remote = append(remote, real.String())
	}
	if remote != nil {
		a.log.Warn("serve: nobody is authenticated: whoever reaches these addresses may read, replace and remove every array",
			"listen", strings.Join(remote, ", "))
	}
	return listeners, nil
}

// storeError tells a store that is not there from one that is wrong.
func storeError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &ExitError{Code: ExitNoServer, Err: fmt.Errorf("serve: %w; the directory above a store must exist", err)}
	}
	return fmt.Errorf("serve: store %s: %w", name, err)
}

// modeValue is a flag that holds the permission of a socket.
type modeValue fs.FileMode

// Set parses the flag's text.
func (m *modeValue) Set(s string) error {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n&^0o777 != 0 || n&0o600 != 0o600 {
		return fmt.Errorf("mode %q: want three octal digits that let the owner read and write, such as 0660", s)
	}
	*m = modeValue(n)
	return nil
}

// Type names the kind of value in help.
func (m *modeValue) Type() string { return "MODE" }

func (m *modeValue) String() string { return fmt.Sprintf("%04o", uint32(*m)) }
