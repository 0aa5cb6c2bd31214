package client

import (
	"strings"
	"testing"
)

func TestParseAddr(t *testing.T) {
	tests := []struct {
		in, network, address string
		loopback             bool
		err                  string // part of the error; "" for none
	}{
		{in: DefaultAddr, network: "tcp", address: "127.0.0.1:9000", loopback: true},
		{in: "127.0.0.2:0", network: "tcp", address: "127.0.0.2:0", loopback: true},
		{in: "localhost:9000", network: "tcp", address: "localhost:9000", loopback: true},
		{in: "tcp://LocalHost.:9000", network: "tcp", address: "LocalHost.:9000", loopback: true},
		{in: "localhost.example.org:9000", network: "tcp", address: "localhost.example.org:9000"},
		{in: "[::1]:9000", network: "tcp", address: "[::1]:9000", loopback: true},
		{in: "tcp://[::]:9000", network: "tcp", address: "[::]:9000"},
		{in: "tcp://[fe80::1%eth0]:9000", network: "tcp", address: "[fe80::1%eth0]:9000"},
		{in: "[::ffff:127.0.0.1]:9000", network: "tcp", address: "[::ffff:127.0.0.1]:9000", loopback: true},
		{in: ":9000", network: "tcp", address: ":9000"},
		{in: "0.0.0.0:9000", network: "tcp", address: "0.0.0.0:9000"},
		{in: "host.example.org:65535", network: "tcp", address: "host.example.org:65535"},
		{in: "unix:///run/ndferry.sock", network: "unix", address: "/run/ndferry.sock", loopback: true},
		{in: "unix://@ndferry", network: "unix", address: "@ndferry", loopback: true},
		{in: "unix:///" + strings.Repeat("a", maxUnixPath-1), network: "unix",
			address: "/" + strings.Repeat("a", maxUnixPath-1), loopback: true},

		{in: "", err: "is empty"},
		{in: "localhost", err: "want HOST:PORT"},
		{in: "tcp://", err: "want HOST:PORT"},
		{in: "localhost:http", err: "not a number"},
		{in: "localhost:65536", err: "not a number"},
		{in: "localhost:-1", err: "not a number"},
		{in: "localhost:+1", err: "not a number"},
		{in: "localhost:01", err: "not a number"},
		{in: "localhost:", err: "not a number"},
		{in: "::1:9000", err: "in brackets"},
		{in: "[zz::1]:9000", err: "not an IPv6 address"},
		{in: "tcp://user@host:9000", err: "no host has"},
		{in: "tcp://host:9000/path", err: "not a number"},
		{in: "http://host:80", err: "unknown scheme"},
		{in: "udp://host:80", err: "unknown scheme"},
		{in: "/run/x.sock", err: "unix:///run/x.sock"},
		{in: "@name", err: "unix://@name"},
		{in: "./x.sock", err: "unix:// and its absolute path"},
		{in: "unix://", err: "names no socket"},
		{in: "unix://@", err: "names no socket"},
		{in: "unix://relative", err: "absolute"},
		{in: "unix:///run/", err: "directory"},
		{in: "unix:///a\x00b", err: "NUL"},
		{in: "unix:///" + strings.Repeat("a", maxUnixPath), err: "at most 103"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseAddr(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, %v; want an error with %q", got, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := (Addr{tt.network, tt.address}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if got.Loopback() != tt.loopback {
				t.Errorf("Loopback() = %v", got.Loopback())
			}
			again, err := ParseAddr(got.String())
			if err != nil || again != got {
				t.Errorf("String() = %q does not read back: %v, %v", got, again, err)
			}
		})
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{DefaultAddr, "[::1]:1", "unix:///a", "unix://@a", "x://", ":0", "[fe80::1%]:9", "[]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddr(s)
		if err != nil {
			return
		}
		again, err := ParseAddr(a.String())
		if err != nil || again != a {
			t.Fatalf("%q -> %+v -> %q -> %+v, %v", s, a, a, again, err)
		}
	})
}
