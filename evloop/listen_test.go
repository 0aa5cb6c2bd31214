//go:build linux

package evloop

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// In a process of 64 descriptors the listener neither dies nor spins, and
// serves again when descriptors are free.
func TestAcceptWithoutDescriptors(t *testing.T) {
	audit(t)
	if os.Getenv("EVLOOP_NOFILE") == "" {
		for _, b := range Backends() {
			t.Run(b, func(t *testing.T) {
				cmd := exec.Command(os.Args[0], "-test.run=^TestAcceptWithoutDescriptors$", "-test.v")
				cmd.Env = append(os.Environ(), "EVLOOP_NOFILE="+b)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			})
		}
		return
	}
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}))
	r := startLoop(t, Config{Backend: os.Getenv("EVLOOP_NOFILE")})
	ln := r.listen("tcp", "127.0.0.1:0", newEcho)
	first := dial(t, ln)
	roundTrip(t, first, first, []byte("served"))
	clients := []net.Conn{first}
	r.do(func() { // fill the table with clients that wait: else it depends on who is quicker which of both ends finds it full
		for {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				break
			}
			clients = append(clients, c)
		}
	})
	eventually(t, "the shortage is met", func() bool { return r.stats().AcceptPauses > 0 })
	before := r.stats().Turns
	time.Sleep(200 * time.Millisecond)
	if n := r.stats().Turns - before; n > 100 {
		t.Errorf("%d turns in 200 ms: the listener spins", n)
	}
	for _, c := range clients {
		_ = c.Close()
	}
	eventually(t, "old connections are gone", func() bool { return r.stats().Conns == 0 })
	c := dial(t, ln)
	roundTrip(t, c, c, []byte("served again"))
}

func TestListen_unixSocketFile(t *testing.T) {
	audit(t)
	r := startLoop(t, Config{})
	path := socketPath(t)
	ln := r.listen("unix", path, newEcho)
	c := dial(t, ln)
	roundTrip(t, c, c, []byte("hello"))
	r.do(func() { // a live server's socket is not taken
		if _, err := r.Listen("unix", path, newEcho); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
	})
	r.do(func() { check(t, ln.Close()) })
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("socket file after Close: %v", err)
	}

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	check(t, err)
	stale.SetUnlinkOnClose(false)
	check(t, stale.Close())
	ln = r.listen("unix", path, newEcho) // nobody listens: replaced
	c = dial(t, ln)
	roundTrip(t, c, c, []byte("hello"))

	other := filepath.Join(filepath.Dir(path), "file")
	check(t, os.WriteFile(other, []byte("keep me"), 0o600))
	r.do(func() {
		if _, err := r.Listen("unix", other, newEcho); err == nil {
			t.Error("listened on a regular file")
		}
	})
	if b, err := os.ReadFile(other); string(b) != "keep me" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}

func TestListen_socketOptions(t *testing.T) {
	audit(t)
	r := startLoop(t, Config{})
	conns := make(chan *Conn, 1)
	ln := r.listen("tcp", "127.0.0.1:0", func() Handler { return &funcs{open: func(c *Conn) { conns <- c }} })
	dial(t, ln)
	c := recv(t, conns)
	for _, fd := range []int{ln.FD(), c.FD()} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("descriptor %d blocks", fd)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d is inherited", fd)
		}
		for name, opt := range map[string][2]int{"TCP_NODELAY": {unix.IPPROTO_TCP, unix.TCP_NODELAY}, "SO_OOBINLINE": {unix.SOL_SOCKET, unix.SO_OOBINLINE}} {
			if v, err := unix.GetsockoptInt(fd, opt[0], opt[1]); err != nil || v == 0 {
				t.Errorf("descriptor %d: %s is off", fd, name)
			}
		}
	}
	if v, err := unix.GetsockoptInt(ln.FD(), unix.SOL_SOCKET, unix.SO_REUSEADDR); err != nil || v == 0 {
		t.Error("SO_REUSEADDR is off")
	}
}

func TestDial(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend})
		for _, network := range []string{"tcp", "unix"} {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = socketPath(t)
			}
			ln := r.listen(network, addr, newEcho)
			got := make(chan string, 1)
			r.do(func() {
				_, err := r.Dial(network, ln.Addr().String(), &funcs{
					open: func(c *Conn) { _, _ = c.Write([]byte("hello")) },
					data: func(_ *Conn, b []byte) int { got <- string(b); return len(b) },
				})
				check(t, err)
			})
			if s := recv(t, got); s != "hello" {
				t.Errorf("got %q", s)
			}
		}
		free, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // has its port, and does not listen
		check(t, err)
		defer unix.Close(free)
		check(t, unix.Bind(free, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
		addr, err := unix.Getsockname(free)
		check(t, err)
		failed := make(chan error, 1)
		r.do(func() {
			_, err := r.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", addr.(*unix.SockaddrInet4).Port), &funcs{
				open:   func(*Conn) { failed <- nil },
				closed: func(_ *Conn, err error) { failed <- err },
			})
			check(t, err)
		})
		if err := recv(t, failed); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("dial of a closed port: %v", err)
		}
		r.do(func() {
			if _, err := r.Dial("tcp", "example.invalid:80", Base{}); err == nil {
				t.Error("a host name was looked up")
			}
		})
	})
}

func TestOpen_refusedBackend(t *testing.T) {
	audit(t)
	no := backend{"epoll", func() (Poller, error) { return nil, unix.EPERM }}
	yes := backend{"poll", newPoll}
	p, err := openFrom([]backend{no, yes}, "auto")
	check(t, err)
	defer p.Close()
	if p.Name() != "poll" {
		t.Errorf("auto chose %s", p.Name())
	}
	if _, err := openFrom([]backend{no, yes}, "epoll"); !errors.Is(err, unix.EPERM) {
		t.Errorf("epoll by name: %v", err)
	}
	if _, err := openFrom([]backend{no}, ""); !errors.Is(err, unix.EPERM) {
		t.Errorf("auto with nothing: %v", err)
	}
	if _, err := openFrom([]backend{yes}, "iocp"); err == nil {
		t.Error("an unknown backend opened")
	}
}

func TestMaxConns(t *testing.T) {
	audit(t)
	g, err := NewGroup(2, Config{MaxConns: 3, Log: quietLog()})
	check(t, err)
	ln, err := g.Listen("tcp", "127.0.0.1:0", newEcho)
	check(t, err)
	a, b := start(t, g.Loops()[0]), start(t, g.Loops()[1])
	var clients []net.Conn
	for range 4 {
		clients = append(clients, dial(t, ln))
	}
	for _, c := range clients[:3] {
		roundTrip(t, c, c, []byte("x"))
	}
	if n, m := a.stats().Conns, b.stats().Conns; n+m != 3 || n == 0 || m == 0 {
		t.Errorf("%d and %d connections, want 3 on both loops", n, m)
	}
	_ = clients[0].Close()
	roundTrip(t, clients[3], clients[3], []byte("y"))
}

func TestDrain(t *testing.T) {
	audit(t)
	for drain := 300 * time.Millisecond; ; drain *= 10 { // one that this test is not held up for
		err := drainIn(t, drain)
		if err == nil {
			return
		}
		if t.Logf("drained in %v: %v", drain, err); drain > 10*time.Second {
			t.Fatal(err)
		}
	}
}

func drainIn(t *testing.T, drain time.Duration) error {
	l, err := New(Config{Log: quietLog()})
	check(t, err)
	ln, err := l.Listen("tcp", "127.0.0.1:0", newEcho)
	check(t, err)
	r := start(t, l)
	leaves, stays := dial(t, ln), dial(t, ln)
	roundTrip(t, leaves, leaves, []byte("x"))
	roundTrip(t, stays, stays, []byte("x"))
	addr := ln.Addr().String()
	r.do(func() { l.Drain(drain) })
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("a draining loop accepts")
	}
	still := []byte("served while draining")
	_, _ = stays.Write(still)
	if got, err := io.ReadAll(io.LimitReader(stays, int64(len(still)))); string(got) != string(still) {
		return fmt.Errorf("while draining: %q, %w", got, err)
	}
	_ = leaves.Close()
	if n, err := stays.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("after the drain: %d, %v", n, err)
	} else if err != io.EOF && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after the drain: %v", err)
	}
	if err := recv(t, r.done); err != nil {
		t.Error(err)
	}
	r.done <- nil
	return nil
}

// A burst waits in the longest backlog that the system allows.
func TestTutorial_backlog(t *testing.T) {
	audit(t)
	r := startLoop(t, Config{})
	ln := r.listen("tcp", "127.0.0.1:0", newEcho)
	info, err := unix.GetsockoptTCPInfo(ln.FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
	check(t, err)
	if want := backlog(); int(info.Sacked) != want || want < 128 { // Linux puts the backlog there
		t.Errorf("backlog %d, want %d", info.Sacked, want)
	}
}

// The number of a closed connection is not free before the batch is over:
// its events may still be to come.
func TestClosedNumberNotReusedInBatch(t *testing.T) {
	audit(t)
	w := newWorld(rand.New(rand.NewPCG(1, 1)), map[triple]int{})
	w.stateF = func(int) connState { return stOpen }
	l := newLoop(Config{Log: quietLog()}, fakePoller{w}, w, func() int64 { return w.now })
	var conns []*Conn
	checked := false
	for range 2 {
		s := &sock{script: []byte("x"), sent: 1, files: map[int][]int{}}
		fd := w.alloc(s)
		w.byFD[fd] = s
		l.quota.claim()
		c, err := l.adopt(fd, &unix.SockaddrInet4{}, nil, &funcs{data: func(c *Conn, b []byte) int {
			for _, o := range conns {
				if o != c && o.state != stClosed {
					o.Abort(nil)
					if n := w.alloc("new"); n == o.FD() {
						t.Errorf("descriptor %d was given out again in the batch that closed it", n)
					}
					checked = true
				}
			}
			return len(b)
		}})
		check(t, err)
		conns = append(conns, c)
	}
	check(t, l.turn())
	check(t, l.turn())
	if !checked {
		t.Error("the connections were not ready in one batch")
	}
}

// While the system lacks descriptors or memory the listener is not asked
// again and again, and it goes on when the shortage is over.
func TestAcceptRestsInAShortage(t *testing.T) {
	audit(t)
	w := newWorld(rand.New(rand.NewPCG(1, 1)), map[triple]int{})
	k := &noMemory{world: w, errno: unix.ENOBUFS}
	l := newLoop(Config{Log: quietLog()}, fakePoller{w}, k, func() int64 { return w.now })
	ln := &Listener{loop: l, fd: w.alloc("listener"), reserve: -1}
	ln.place = func(fd int, peer unix.Sockaddr) { _, _ = l.adopt(fd, peer, nil, Base{}) }
	l.listeners[int32(ln.fd)] = ln
	check(t, ln.register(Read))
	w.pool = append(w.pool, &sock{files: map[int][]int{}})
	for range 1000 {
		check(t, l.turn())
		w.now += int64(time.Millisecond) / 10
	}
	if k.calls < 2 || k.calls > 8 { // 10, 20, 40 ms apart
		t.Errorf("accept called %d times in 100 ms of shortage", k.calls)
	}
	k.errno = 0
	for range 100 {
		check(t, l.turn())
		w.now += int64(10 * time.Millisecond)
	}
	if l.live != 1 {
		t.Error("the listener never went on")
	}
}

// noMemory fails every accept with errno while there is one.
type noMemory struct {
	*world
	errno unix.Errno
	calls int
}

func (k *noMemory) Accept(fd int) (int, unix.Sockaddr, unix.Errno) {
	if k.errno != 0 {
		k.calls++
		return -1, nil, k.errno
	}
	return k.world.Accept(fd)
}

// A connection that is readable and writable in one event is served both
// ways in one turn.
func TestTutorial_oneEventServesBoth(t *testing.T) {
	audit(t)
	w := newWorld(rand.New(rand.NewPCG(1, 1)), map[triple]int{})
	l := newLoop(Config{Log: quietLog()}, fakePoller{w}, w, func() int64 { return w.now })
	s := &sock{script: []byte("in"), files: map[int][]int{}}
	fd := w.alloc(s)
	w.byFD[fd] = s
	l.quota.claim()
	got := 0
	c, err := l.adopt(fd, &unix.SockaddrInet4{}, nil, &funcs{data: func(_ *Conn, b []byte) int { got += len(b); return len(b) }})
	check(t, err)
	_, err = c.Write([]byte("out"))
	check(t, err)
	for range 3 {
		check(t, l.turn())
	}
	if c.flags&flBlocked == 0 {
		t.Fatal("output is not blocked")
	}
	s.room, s.sent = 100, 2
	check(t, l.turn())
	if string(s.got) != "out" || got != 2 {
		t.Errorf("one turn sent %q and read %d bytes, want out and 2", s.got, got)
	}
}
