package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ndferry/wire"
)

// crowd is the connections that transfer nothing.
type crowd struct {
	ctx              context.Context // ends when it leaves
	cancel           context.CancelFunc
	network, address string
	abortNetwork     string // where connections are reset
	abortAddress     string
	bare             *exec.Cmd // nil: at the server
	resets           *resetter // nil: none
	tasks            sync.WaitGroup
	silent           atomic.Int64
	mu               sync.Mutex
	conns            []net.Conn // guarded by mu
	over             bool       // guarded by mu; leave has closed conns
	left             bool
	ended            []net.Conn // half-open
}

// gather connects the idle and the slow, and starts those that come again and again.
func (l *load) gather(network, address string) (*crowd, error) {
	ctx, cancel := context.WithCancel(l.ctx)
	c := &crowd{ctx: ctx, cancel: cancel, network: network, address: address, abortNetwork: network, abortAddress: address}
	if l.away {
		if err := c.startBare(); err != nil {
			return nil, err
		}
	}
	if err := c.connect(l); err != nil {
		return nil, err
	}
	if slow := c.conns[l.idle:]; len(slow) > 0 {
		c.tasks.Go(func() { c.trickle(slow) })
	}
	if l.aborts > 0 {
		var err error
		if c.resets, err = startResetter(l, c.abortNetwork, c.abortAddress); err != nil {
			return nil, err
		}
	}
	for range l.silent {
		c.tasks.Go(func() { c.say() })
	}
	return c, nil
}

// connect has the half-open, the idle and the slow say HELLO.
func (c *crowd) connect(l *load) error {
	for i := range l.half {
		l.doing("%d of %d half-open clients have connected", i, l.half)
		nc, err := c.greet()
		if err != nil {
			return fmt.Errorf("half-open client %d: %w", i, err)
		}
		nc.Write([]byte("NDF1\x01"))
		if half, ok := nc.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
		c.ended = append(c.ended, nc)
	}
	for i := range l.idle + l.slow {
		l.doing("%d of %d clients have connected", i, l.idle+l.slow)
		nc, err := c.greet()
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		c.conns = append(c.conns, nc)
	}
	return nil
}

func hello() []byte {
	return wire.AppendFrame(nil, wire.Header{Kind: wire.Hello, Flags: wire.Critical}, wire.Encode(wire.NewHello("ndload", wire.MaxCredit)))
}

// greet connects and exchanges HELLO.
func (c *crowd) greet() (net.Conn, error) {
	nc, err := net.Dial(c.network, c.address)
	if err != nil {
		return nil, err
	}
	if _, err := nc.Write(hello()); err != nil {
		return nil, err
	}
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(nc, head); err != nil {
		return nil, err
	}
	h, err := wire.ParseHeader(head)
	if err != nil {
		return nil, err
	}
	_, err = io.CopyN(io.Discard, nc, int64(h.Length)+wire.TrailerSize)
	return nc, err
}

// trickle sends a byte a second of a request; who is thrown out comes again.
func (c *crowd) trickle(slow []net.Conn) {
	frame := wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: 1}, make([]byte, 60<<10))
	for i := 0; c.ctx.Err() == nil; i++ {
		for k, nc := range slow {
			if _, err := nc.Write(frame[i : i+1]); err != nil {
				nc.Close()
				if slow[k], err = c.greet(); err != nil {
					return
				}
			}
		}
		wait(c.ctx, time.Second)
	}
}

// startBare starts the process of -bare and has connections reset there.
func (c *crowd) startBare() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.bare = exec.Command(self, "-bare")
	out, err := c.bare.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.bare.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	c.abortNetwork, c.abortAddress = "tcp", strings.TrimSpace(line)
	return err
}

// acceptAndClose is the least that a server can do. It writes its address first.
func acceptAndClose() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		nc.Close()
	}
}

// say holds a connection open until it is thrown out.
func (c *crowd) say() {
	for c.ctx.Err() == nil {
		nc, err := net.Dial(c.network, c.address)
		if err != nil {
			wait(c.ctx, 10*time.Millisecond)
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, nc)
		over := c.over
		c.mu.Unlock()
		if over {
			nc.Close()
			return
		}
		c.silent.Add(1)
		io.Copy(io.Discard, nc)
		nc.Close()
	}
}

// leave closes all, once, and notes how many there were.
func (c *crowd) leave(l *load) {
	if c.left {
		return
	}
	c.left = true
	c.cancel()
	if c.resets != nil {
		n, cpu := c.resets.end()
		l.figures["aborts"], l.figures["aborts_cpu_s"] = float64(n), cpu.Seconds()
	}
	c.mu.Lock()
	c.over = true
	for _, nc := range append(c.conns, c.ended...) {
		nc.Close()
	}
	c.mu.Unlock()
	c.tasks.Wait()
	if c.bare != nil {
		_ = c.bare.Process.Kill()
		_ = c.bare.Wait()
	}
	if l.silent > 0 {
		l.figures["silent"] = float64(c.silent.Load())
	}
}
