//go:build linux || darwin || freebsd

package evloop

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Listener accepts connections for a loop. It belongs to that loop's
// goroutine.
type Listener struct {
	loop    *Loop
	fd      int
	path    string // of the Unix socket that Close removes
	handler func() Handler
	place   func(fd int, peer unix.Sockaddr) // gives an accepted descriptor to a loop
	have    Interest
	reserve int // an open descriptor to give up when there are no more; -1 none
	pause   time.Duration
	logged  int64
	timer   *Timer
	stuck   bool // waits for the quota
	closed  bool
}

// Listen accepts connections on a stream address: network "tcp", "tcp4",
// "tcp6" or "unix", address as for net.Listen; a leading @ is Linux's
// abstract namespace. handler is called for each, on the loop's goroutine.
//
// The socket has SO_REUSEADDR, the longest backlog the system allows, and is
// plain TCP; accepted connections send small writes at once (TCP_NODELAY)
// and take urgent data in line. A socket file that no process listens on is
// replaced; anything else at the path is an error. Call Listen before Run,
// or on the loop's goroutine.
func (l *Loop) Listen(network, address string, handler func() Handler) (*Listener, error) {
	fd, path, err := listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("evloop: listen %s %s: %w", network, address, err)
	}
	ln, err := l.ListenFD(fd, handler)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	ln.path = path
	return ln, nil
}

// ListenFD takes a listening socket, inherited or received from another
// process, and accepts on it. If it fails, the caller still owns fd.
func (l *Loop) ListenFD(fd int, handler func() Handler) (*Listener, error) {
	if err := setCommon(fd); err != nil {
		return nil, fmt.Errorf("evloop: listen on descriptor %d: %w", fd, err)
	}
	ln := &Listener{loop: l, fd: fd, handler: handler, reserve: l.k.Reserve()}
	ln.place = func(fd int, peer unix.Sockaddr) { _, _ = l.adopt(fd, peer, nil, handler()) }
	if err := ln.register(Read); err != nil {
		ln.loop.k.Close(ln.reserve)
		return nil, fmt.Errorf("evloop: listen on descriptor %d: %w", fd, err)
	}
	l.listeners[int32(fd)] = ln
	return ln, nil
}

// FD lends the listening descriptor, to pass it to another process.
func (ln *Listener) FD() int { return ln.fd }

// Addr returns the address that it listens on, with the port that the system
// chose.
func (ln *Listener) Addr() net.Addr {
	sa, err := unix.Getsockname(ln.fd)
	if err != nil {
		return nil
	}
	if a := (&Conn{peer: sa}).RemoteAddr(); a != nil {
		return a
	}
	return nil
}

// Close stops accepting. It removes the socket file that Listen made.
func (ln *Listener) Close() error {
	if ln.closed {
		return nil
	}
	ln.closed = true
	_ = ln.register(0)
	delete(ln.loop.listeners, int32(ln.fd))
	if ln.timer != nil {
		ln.timer.Stop()
	}
	if ln.reserve >= 0 {
		ln.loop.k.Close(ln.reserve)
	}
	if ln.path != "" {
		_ = os.Remove(ln.path)
	}
	if e := ln.loop.k.Close(ln.fd); e != 0 {
		return fmt.Errorf("evloop: listener: close: %w", e)
	}
	return nil
}

func (l *Loop) closeListeners() {
	for _, ln := range l.listeners {
		_ = ln.Close()
	}
}

func (ln *Listener) register(want Interest) error {
	if ln.have == want {
		return nil
	}
	ln.loop.stats.Registrations++
	if err := ln.loop.p.Set(ln.fd, ln.have, want); err != nil {
		return err
	}
	ln.have = want
	return nil
}

// ready accepts what waits, at most a batch per turn. No error of a single
// connection, and no shortage, ends the listener.
func (ln *Listener) ready() {
	l := ln.loop
	for range acceptBatch {
		if !l.quota.take() {
			ln.stuck = true
			_ = ln.register(0)
			l.quota.wait(ln)
			return
		}
		fd, peer, e := l.k.Accept(ln.fd)
		if e == 0 {
			ln.pause = 0
			l.stats.Accepted++
			ln.give(fd, peer)
			if ln.closed {
				return
			}
			continue
		}
		l.quota.release()
		switch e {
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED, unix.ECONNRESET, unix.EPROTO, unix.EPERM, unix.ETIMEDOUT,
			unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH:
			continue // accept(2): errors of the new connection, already over
		default:
			ln.short(e)
			return
		}
	}
}

func (ln *Listener) give(fd int, peer unix.Sockaddr) {
	defer func() {
		if r := recover(); r != nil {
			ln.loop.stats.Panics++
			ln.loop.cfg.Log.Error("accept handler panicked", "panic", r)
			ln.loop.k.Close(fd)
			ln.loop.quota.release()
		}
	}()
	ln.place(fd, peer)
}

// short handles a lack of descriptors or memory. Waiting clients are refused
// with the reserved descriptor's help, so that they need not wait for a
// timeout of their own; then the listener rests, because it would stay ready
// and spin.
func (ln *Listener) short(e unix.Errno) {
	l := ln.loop
	l.stats.AcceptPauses++
	refused := 0
	if (e == unix.EMFILE || e == unix.ENFILE) && ln.reserve >= 0 {
		for ; refused < 16; refused++ {
			l.k.Close(ln.reserve)
			fd, _, e := l.k.Accept(ln.fd)
			if e == 0 {
				l.k.Close(fd)
			}
			ln.reserve = ln.loop.k.Reserve()
			if e != 0 || ln.reserve < 0 {
				break
			}
		}
	}
	ln.pause = min(max(2*ln.pause, acceptPauseLo), acceptPauseHi)
	if now := l.clock(); ln.logged == 0 || now-ln.logged >= int64(time.Second) {
		ln.logged = now
		l.cfg.Log.Error("cannot accept, trying again", "err", e, "refused", refused, "in", ln.pause)
	}
	_ = ln.register(0)
	ln.timer = l.After(ln.pause, ln.resume)
}

// resume accepts again after a shortage or at a freed place.
func (ln *Listener) resume() {
	if ln.closed {
		return
	}
	ln.stuck = false
	if ln.reserve < 0 {
		ln.reserve = ln.loop.k.Reserve()
	}
	if err := ln.register(Read); err != nil {
		ln.timer = ln.loop.After(acceptPauseHi, ln.resume)
	}
}

// listen makes the socket.
func listen(network, address string) (fd int, path string, err error) {
	domain, sa, err := resolve(network, address)
	if err != nil {
		return -1, "", err
	}
	if fd, err = newSocket(domain); err != nil {
		return -1, "", err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if domain != unix.AF_UNIX {
		set := func(level, opt, v int) {
			if err == nil {
				err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, opt, v))
			}
		}
		set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		set(unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)       // inherited by accepted sockets
		set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)       // likewise
		if domain == unix.AF_INET6 && network == "tcp" { // [::] takes IPv4 too
			set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		}
		if err != nil {
			return fd, "", err
		}
	}
	err = unix.Bind(fd, sa)
	if u, ok := sa.(*unix.SockaddrUnix); ok && !strings.HasPrefix(address, "@") {
		if err == unix.EADDRINUSE && abandoned(u) {
			err = unix.Bind(fd, sa)
		}
		if err == nil {
			path = address
		}
	}
	if err != nil {
		return fd, "", os.NewSyscallError("bind", err)
	}
	return fd, path, os.NewSyscallError("listen", unix.Listen(fd, backlog()))
}

// abandoned removes a socket file that nobody listens on, and reports
// whether it did. It touches nothing that is not a socket.
func abandoned(sa *unix.SockaddrUnix) bool {
	st, err := os.Lstat(sa.Name)
	if err != nil || st.Mode().Type() != fs.ModeSocket {
		return false
	}
	fd, err := newSocket(unix.AF_UNIX)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Connect(fd, sa) == unix.ECONNREFUSED && os.Remove(sa.Name) == nil
}

// backlog is the system's own limit.
func backlog() int {
	if runtime.GOOS == "linux" {
		if b, err := os.ReadFile("/proc/sys/net/core/somaxconn"); err == nil {
			if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 0 {
				return n
			}
		}
	}
	return unix.SOMAXCONN
}

// resolve turns an address into what the system takes. Names are not looked
// up, because that blocks, except for the empty host and "localhost".
func resolve(network, address string) (int, unix.Sockaddr, error) {
	if network == "unix" {
		if address == "" {
			return 0, nil, errors.New("empty path")
		}
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: address}, nil
	}
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return 0, nil, fmt.Errorf("unknown network %q", network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return 0, nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return 0, nil, fmt.Errorf("port %q: %w", service, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if host == "" {
		host = "::"
		if network == "tcp4" {
			host = "0.0.0.0"
		}
	}
	host, zone, _ := strings.Cut(host, "%")
	ip := net.ParseIP(host)
	if ip == nil {
		return 0, nil, fmt.Errorf("host %q is not an IP address: resolve it first", host)
	}
	if ip4 := ip.To4(); ip4 != nil && network != "tcp6" {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte(ip4)}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(port), Addr: [16]byte(ip.To16())}
	if zone != "" {
		ifi, err := net.InterfaceByName(zone)
		if err != nil {
			return 0, nil, err
		}
		sa.ZoneId = uint32(ifi.Index)
	}
	return unix.AF_INET6, sa, nil
}
