//go:build gate && linux

package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/store/mem"
)

// strangeNet is a thread in a network namespace whose loopback device has addresses that are not of this host for the server: what it takes
// for a stranger is told by the address alone.
func strangeNet(t *testing.T, addresses ...string) *namespace {
	t.Helper()
	n := &namespace{do: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		for _, a := range addresses {
			if err == nil {
				err = exec.Command("ip", "addr", "add", a+"/32", "dev", "lo").Run()
			}
		}
		if err == nil {
			err = exec.Command("ip", "link", "set", "lo", "up").Run()
		}
		made <- err
		for f := range n.do {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatalf("a network namespace with addresses %v: %v", addresses, err)
	}
	t.Cleanup(func() { close(n.do) })
	return n
}

// TestGateStrangers meets the limits of clients of other hosts over TCP, and goes one over: so many of one address, so many that have not said
// HELLO; a client of this host may come beside them, and who leaves makes room.
func TestGateStrangers(t *testing.T) { eachDriver(t, strangers) }

func strangers(t *testing.T, driver string) {
	const one, two = "192.0.2.1", "192.0.2.2"
	n := strangeNet(t, one, two)
	cfg := Config{Driver: driver, Conns: 12, PerAddress: 4, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	cfg.Session.Handshake = time.Hour // who is silent is not what ends
	srv := New(mem.New(mem.Config{}), cfg)
	var ln net.Listener
	n.run(func() {
		var err error
		if ln, err = net.Listen("tcp", "0.0.0.0:0"); err != nil {
			t.Error(err)
		}
	})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		<-served
	}()
	port := ln.Addr().(*net.TCPAddr).Port
	connect := func(from string) (nc net.Conn) {
		t.Helper()
		var err error
		n.run(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
			nc, err = d.Dial("tcp", (&net.TCPAddr{IP: net.ParseIP(from), Port: port}).String())
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	refused := func(from, why string) {
		t.Helper()
		nc := connect(from)
		nc.SetReadDeadline(time.Now().Add(patience))
		if n, err := nc.Read(make([]byte, 1)); n > 0 || errors.Is(err, unix.EAGAIN) || isTimeout(err) {
			t.Errorf("%s: %s is served: %v", driver, why, err)
		}
	}
	await := func(n int) {
		t.Helper()
		for end := time.Now().Add(patience); srv.Connections() != n; {
			if time.Now().After(end) {
				t.Fatalf("%d connections are counted, of %d", srv.Connections(), n)
			}
			time.Sleep(time.Millisecond)
		}
	}
	var greeted []*peer
	for range 4 {
		p := newPeer(t, connect(one))
		p.ping() // its HELLO has come
		greeted = append(greeted, p)
	}
	refused(one, "a fifth of four connections of one address")
	for range 3 { // a quarter of twelve
		connect(two)
	}
	await(7)
	refused(two, "a fourth of three strangers without HELLO")
	newPeer(t, connect("127.0.0.1")).ping()
	for _, p := range greeted {
		p.ping()
	}
	greeted[0].nc.Close()
	await(7)
	refused(two, "a stranger, while three have not said HELLO")
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
