//go:build linux || darwin || freebsd

package fdpass

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Pair returns the two ends of a new nameless connection. Both belong to the
// caller.
func Pair(typ Type) (*Conn, *Conn, error) {
	a, f, err := PairFile(typ)
	if err != nil {
		return nil, nil, err
	}
	b, err := NewConn(f)
	if err != nil {
		a.Close()
		f.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// PairFile is Pair with the second end as a file, for exec.Cmd.ExtraFiles; the
// child calls [Inherited]. Close the file once the child has started: the end of
// the connection is seen only when nobody holds the other end.
func PairFile(typ Type) (*Conn, *os.File, error) {
	sotype := unix.SOCK_SEQPACKET
	if typ == Stream {
		sotype = unix.SOCK_STREAM
	}
	fds, err := socketpair(sotype)
	if err != nil {
		return nil, nil, fmt.Errorf("fdpass: pair: %w", err)
	}
	f, g := os.NewFile(uintptr(fds[0]), "fdpass"), os.NewFile(uintptr(fds[1]), "fdpass")
	a, err := NewConn(f)
	if err != nil {
		f.Close()
		g.Close()
		return nil, nil, err
	}
	return a, g, nil
}
