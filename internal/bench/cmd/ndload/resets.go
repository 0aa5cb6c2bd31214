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
	r.cmd = exec.Command(self, "-resetter", "-addr", network+"://"+address, "-aborts", fmt.Sprint(l.aborts), "-abort-rate", fmt.Sprint(l.rate), "-abort-hold", fmt.Sprint(l.hold))
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

// end returns how many connections were reset.
func (r *resetter) end() int64 {
	r.stdin.Close()
	<-r.done
	_ = r.cmd.Wait()
	return r.count.Load()
}

// reset is that process: it writes how many there were, until its input ends.
func (l *load) reset(network, address string) {
	var count atomic.Int64
	for range l.aborts {
		go l.abort(network, address, &count)
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
			return
		case <-time.After(20 * time.Millisecond):
			fmt.Println(count.Load())
		}
	}
}

// abort connects, begins a frame and resets, at once or when it holds as many as it may.
func (l *load) abort(network, address string, count *atomic.Int64) {
	held := make([]net.Conn, l.hold/l.aborts) // the oldest is the next
	next := time.Now()
	for i := 0; ; i++ {
		if l.rate > 0 {
			next = next.Add(time.Duration(float64(l.aborts) / l.rate * float64(time.Second)))
			time.Sleep(time.Until(next))
		}
		nc, err := net.Dial(network, address)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		nc.Write([]byte("NDF1\x01"))
		if len(held) > 0 {
			k := i % len(held)
			if nc, held[k] = held[k], nc; nc == nil {
				continue
			}
		}
		if t, ok := nc.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		nc.Close()
		count.Add(1)
	}
}
