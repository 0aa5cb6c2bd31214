//go:build unix

package client

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"ndferry/wire"
)

// What a server said before it closed is told although our own HELLO could not be sent any more.
func TestGreetAServerThatIsGone(t *testing.T) {
	frame := func(kind wire.Kind, message any) []byte {
		return wire.AppendFrame(nil, wire.Header{Kind: kind, Flags: wire.Critical}, wire.Encode(message))
	}
	newer := wire.NewHello("test", wire.MaxCredit)
	newer.Versions = [2]int{7, 8}
	hello := frame(wire.Hello, wire.NewHello("test", wire.MaxCredit))
	layout := bytes.Clone(hello)
	layout[3] = '2'
	for _, c := range []struct {
		name string
		data []byte
		says string
	}{
		{"newer versions", frame(wire.Hello, newer), "versions 7 to 8"},
		{"another layout", layout, "layout version '2'"},
		{"an ERROR", frame(wire.Fail, wire.NewFailure(wire.CodeLimit, "too many connections")), "too many connections"},
		{"another protocol", []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n"), "HTTP"},
		{"nothing", nil, "broken pipe"},
		{"its HELLO", hello, "broken pipe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc := withPeerGone(t, c.data)
			_, err := New(t.Context(), nc, Config{})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %q in it", err, c.says)
			}
			if errors.Is(err, syscall.EPIPE) != (c.says == "broken pipe") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// withPeerGone is one end of a Unix pair whose other end wrote data and closed.
func withPeerGone(t *testing.T, data []byte) net.Conn {
	t.Helper()
	ours, gone := connected(t)
	if _, err := gone.Write(data); err != nil {
		t.Fatal(err)
	}
	gone.Close()
	return ours
}
