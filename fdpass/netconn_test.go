//go:build linux

package fdpass

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// passTCP accepts a TCP connection, passes it, and returns the client's end, the
// sender's copy and the received connection.
func passTCP(t *testing.T, before func(client, accepted *net.TCPConn)) (client, copy *net.TCPConn, passed *SocketConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	client, copy = c.(*net.TCPConn), s.(*net.TCPConn)
	if before != nil {
		before(client, copy)
	}
	a, b := pair(t, Seqpacket)
	if err := a.Send([]byte("x"), copy); err != nil {
		t.Fatal(err)
	}
	_, set, err := b.Recv(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if passed, err = set.TakeConn(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { passed.Close() })
	for _, c := range []net.Conn{client, passed} {
		c.SetDeadline(time.Now().Add(time.Minute))
	}
	return client, copy, passed
}

type rawConn = interface{ Control(func(uintptr)) error }

var keptOptions = [][2]int{{unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}}

func socketOptions(t *testing.T, raw rawConn) (values []int) {
	t.Helper()
	raw.Control(func(fd uintptr) {
		for _, o := range keptOptions {
			v, err := unix.GetsockoptInt(int(fd), o[0], o[1])
			if err != nil {
				t.Error(err)
			}
			values = append(values, v)
		}
	})
	return values
}

// net.FileConn would set TCP_NODELAY and keep-alive anew.
func TestTakeConn_keepsOptions(t *testing.T) {
	audit(t)
	_, copy, passed := passTCP(t, func(_, s *net.TCPConn) {
		s.SetNoDelay(false)
		s.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 77 * time.Second})
	})
	rawCopy, _ := copy.SyscallConn()
	rawPassed, _ := passed.SyscallConn()
	if got, want := socketOptions(t, rawPassed), []int{0, 1, 77}; !slices.Equal(got, want) {
		t.Errorf("options of the received connection %v, want %v", got, want)
	}
	if got, want := socketOptions(t, rawCopy), []int{0, 1, 77}; !slices.Equal(got, want) {
		t.Errorf("options of the sender's copy %v, want %v", got, want)
	}
}

// Bytes that came before the connection was passed are announced to its new
// owner, although readiness is told on edges alone.
func TestTakeConn_unreadBytes(t *testing.T) {
	audit(t)
	_, _, passed := passTCP(t, func(c, _ *net.TCPConn) { io.WriteString(c, "early") })
	buf := make([]byte, 5)
	if _, err := io.ReadFull(passed, buf); err != nil || string(buf) != "early" {
		t.Fatalf("%q, %v", buf, err)
	}
}

// Close ends the connection for the client while the sender has its copy.
func TestTakeConn_closeReachesThePeer(t *testing.T) {
	audit(t)
	client, copy, passed := passTCP(t, nil)
	io.WriteString(passed, "bye")
	if err := passed.Close(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(client); err != nil || string(all) != "bye" {
		t.Fatalf("%q, %v", all, err)
	}
	if _, err := copy.Write([]byte("late")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the copy still writes: %v", err)
	}
	if err := passed.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("close again: %v", err)
	}
}

// Release, and the close of the sender's copy, leave the connection alone, also
// with bytes that nobody has read: no reset is sent.
func TestTakeConn_releaseLeavesTheConnection(t *testing.T) {
	audit(t)
	client, copy, passed := passTCP(t, func(c, _ *net.TCPConn) { io.WriteString(c, "unread") })
	if err := copy.Close(); err != nil { // its registration with the poller goes with it
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(passed, buf); err != nil || string(buf) != "unread" {
		t.Fatalf("%q, %v", buf, err)
	}
	if _, err := io.WriteString(passed, "answer"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "answer" {
		t.Fatalf("%q, %v", buf, err)
	}
	client2, copy2, passed2 := passTCP(t, func(c, _ *net.TCPConn) { io.WriteString(c, "unread") })
	if err := passed2.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(copy2, buf); err != nil || string(buf) != "unread" {
		t.Fatalf("%q, %v", buf, err)
	}
	if _, err := io.WriteString(copy2, "answer"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client2, buf); err != nil || string(buf) != "answer" {
		t.Fatalf("%q, %v", buf, err)
	}
}

// A deadline ends a Read of a received connection with the bytes still there.
func TestTakeConn_deadlineLosesNothing(t *testing.T) {
	audit(t)
	client, _, passed := passTCP(t, nil)
	passed.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := passed.Read(make([]byte, 5)); !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	io.WriteString(client, "later")
	passed.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(passed, buf); err != nil || string(buf) != "later" {
		t.Fatalf("%q, %v", buf, err)
	}
}
