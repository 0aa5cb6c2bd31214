package worker

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListen_plainTCP: package net would listen with MPTCP where the kernel has it.
func TestListen_plainTCP(t *testing.T) {
	audit(t)
	ln, err := Listen(t.Context(), "tcp", "127.0.0.1:0", ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if p, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || p != unix.IPPROTO_TCP {
			t.Errorf("protocol %d, %v, want %d", p, err, unix.IPPROTO_TCP)
		}
	})
}
