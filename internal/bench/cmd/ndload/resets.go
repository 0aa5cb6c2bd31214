package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// resetter is the process that connects, begins a frame and resets, again and again: as hostile clients it has a share of the processors of its
// own, and takes none from the goroutines of the honest.
type resetter struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}
	count atomic.Int64
}

func startResetter(l *load, network, address string) (*resetter, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &resetter{done: make(chan struct{})}
	r.cmd = exec.Command(self, "-resetter", "-addr", network+"://"+address, "-aborts", fmt.Sprint(l.aborts), "-abort-rate", fmt.Sprint(l.rate), "-abort-hold", fmt.Sprint(l.hold), "-limit", l.limit.String())
	r.cmd.Stderr = os.Stderr
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(r.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, err := strconv.ParseInt(strings.TrimSpace(lines.Text()), 10, 64); err == nil {
				r.count.Store(n)
			}
		}
	}()
	return r, nil
}

// ended tells that it resets no more, which it should not by itself.
func (r *resetter) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// end returns how many connections were reset, and the processor time that it took.
func (r *resetter) end() (n int64, cpu time.Duration) {
	r.stdin.Close()
	<-r.done
	_ = r.cmd.Wait()
	return r.count.Load(), r.cmd.ProcessState.UserTime() + r.cmd.ProcessState.SystemTime()
}

// reset is that process: it writes how many there were, until its input ends.
func (l *load) reset(network, address string) error {
	to, err := sockaddr(network, address)
	if err != nil {
		return err
	}
	var count atomic.Int64
	for range l.aborts {
		go l.abort(to, &count)
	}
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	for {
		select {
		case <-over:
			fmt.Println(count.Load())
			return nil
		case <-time.After(20 * time.Millisecond):
			fmt.Println(count.Load())
		}
	}
}

// abort connects, begins a frame and resets, at once or when it holds as many as it may: with few and plain system calls, so that what is
// measured is the server and not this.
func (l *load) abort(to syscall.Sockaddr, count *atomic.Int64) {
	held := make([]int, l.hold/l.aborts) // descriptors; the oldest is the next
	for i := range held {
		held[i] = -1
	}
	next := time.Now()
	for i := 0; ; i++ {
		if l.rate > 0 {
			next = next.Add(time.Duration(float64(l.aborts) / l.rate * float64(time.Second)))
			time.Sleep(time.Until(next))
		}
		fd, err := connectTo(to)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if len(held) > 0 {
			k := i % len(held)
			if fd, held[k] = held[k], fd; fd < 0 {
				continue
			}
		}
		_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		_ = syscall.Close(fd)
		count.Add(1)
	}
}

// connectTo connects and begins a frame.
func connectTo(to syscall.Sockaddr) (int, error) {
	family := syscall.AF_INET
	if _, ok := to.(*syscall.SockaddrUnix); ok {
		family = syscall.AF_UNIX
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	if err = syscall.Connect(fd, to); err == nil {
		_, err = syscall.Write(fd, []byte("NDF1\x01"))
	}
	if err != nil {
		_ = syscall.Close(fd)
	}
	return fd, err
}

// sockaddr is an address in the form that connectTo takes.
func sockaddr(network, address string) (syscall.Sockaddr, error) {
	if network == "unix" {
		return &syscall.SockaddrUnix{Name: address}, nil
	}
	a, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	return &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}, nil
}
