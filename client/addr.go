package client

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DefaultAddr is where a server listens and a client looks when nothing else
// is said.
const DefaultAddr = "tcp://127.0.0.1:9000"

// maxUnixPath is the longest path of a Unix socket in bytes: sun_path has 108
// on Linux and 104 on the BSDs and macOS, one of them for the final NUL.
const maxUnixPath = 103

// Addr is the address of a server, in the form that [net.Dial] and
// [net.Listen] take.
type Addr struct {
	Network string // "tcp" or "unix"
	Address string // "host:port"; or a path, or "@name" for an abstract socket
}

// ParseAddr reads an address: tcp://HOST:PORT, unix:///path, unix://@name, or
// HOST:PORT, which is short for tcp. An IPv6 host stands in brackets. Nothing
// is looked up.
func ParseAddr(s string) (Addr, error) {
	fail := func(format string, args ...any) (Addr, error) {
		return Addr{}, fmt.Errorf("client: address %q: %s", s, fmt.Sprintf(format, args...))
	}
	scheme, rest, ok := strings.Cut(s, "://")
	switch {
	case s == "":
		return fail("is empty: use tcp://HOST:PORT or unix:///path")
	case !ok && strings.HasPrefix(s, "./"):
		return fail("a Unix socket is written unix:// and its absolute path")
	case !ok && (strings.HasPrefix(s, "/") || strings.HasPrefix(s, "@")):
		return fail("a Unix socket is written unix://%s", s)
	case !ok:
		scheme, rest = "tcp", s
	}
	switch scheme {
	case "tcp":
		if why := checkHostPort(rest); why != "" {
			return fail("%s", why)
		}
	case "unix":
		if why := checkUnixPath(rest); why != "" {
			return fail("%s", why)
		}
	default:
		return fail("unknown scheme %q: use tcp or unix", scheme)
	}
	return Addr{Network: scheme, Address: rest}, nil
}

// String returns the address in the full form that ParseAddr reads.
func (a Addr) String() string { return a.Network + "://" + a.Address }

// Loopback reports whether only processes of this host can reach the address:
// a Unix socket, a loopback IP, or the name localhost. An empty host means
// every interface and is not loopback.
func (a Addr) Loopback() bool {
	if a.Network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(a.Address)
	if err != nil {
		return false
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	host, _, _ = strings.Cut(host, "%")
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checkHostPort returns what is wrong with a HOST:PORT, or "".
func checkHostPort(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") {
			return "an IPv6 host stands in brackets: [::1]:9000"
		}
		return "want HOST:PORT, such as 127.0.0.1:9000"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || port != strconv.FormatUint(n, 10) {
		return fmt.Sprintf("port %q is not a number from 0 to 65535", port)
	}
	if strings.ContainsAny(host, "/@ \t\r\n\x00") {
		return fmt.Sprintf("host %q has a character that no host has", host)
	}
	if strings.Contains(host, ":") {
		bare, _, _ := strings.Cut(host, "%")
		if net.ParseIP(bare) == nil {
			return fmt.Sprintf("host %q is not an IPv6 address", host)
		}
	}
	return ""
}

// checkUnixPath returns what is wrong with the name of a Unix socket, or "".
func checkUnixPath(s string) string {
	switch {
	case s == "" || s == "/" || s == "@":
		return "names no socket: use unix:///path or unix://@name"
	case s[0] != '/' && s[0] != '@':
		return "the path of a Unix socket is absolute: unix:///path"
	case strings.HasSuffix(s, "/"):
		return "names a directory, not a socket"
	case strings.ContainsRune(s, 0):
		return "has a NUL byte"
	case len(s) > maxUnixPath:
		return fmt.Sprintf("the path has %d bytes: a Unix socket's has at most %d", len(s), maxUnixPath)
	}
	return ""
}
