//go:build linux || darwin || freebsd

package fdpass

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Pair returns the two ends of a new nameless connection. Both belong to the
// caller.
func Pair(typ Type) (*Conn, *Conn, error) {
	fds, err := pairFDs(typ)
	if err != nil {
		return nil, nil, fmt.Errorf("fdpass: pair: %w", err)
	}
	a, errA := ownConn(fds[0])
	b, errB := ownConn(fds[1])
	if err := errors.Join(errA, errB); err != nil {
		if a != nil {
			a.Close()
		}
		if b != nil {
			b.Close()
		}
		return nil, nil, err
	}
	return a, b, nil
}

// PairFile is Pair with the second end as a file, for exec.Cmd.ExtraFiles. It is
// in blocking mode, as a program of any language expects; a child of this
// package calls [Inherited]. Close the file once the child has started: the end
// of the connection is seen only when nobody holds the other end.
func PairFile(typ Type) (*Conn, *os.File, error) {
	fds, err := pairFDs(typ)
	if err != nil {
		return nil, nil, fmt.Errorf("fdpass: pair: %w", err)
	}
	c, err := ownConn(fds[0])
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[1], false); err != nil {
		c.Close()
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("fdpass: pair: %w", err)
	}
	return c, os.NewFile(uintptr(fds[1]), "fdpass"), nil
}

func pairFDs(typ Type) ([2]int, error) {
	if typ == Stream {
		return socketpair(unix.SOCK_STREAM)
	}
	return socketpair(unix.SOCK_SEQPACKET)
}

// ownConn makes a Conn of fd, which it closes on an error.
func ownConn(fd int) (*Conn, error) { return ownSocket(os.NewFile(uintptr(fd), "fdpass")) }

// ownSocket makes a Conn of a socket, which it closes on an error.
func ownSocket(s Socket) (*Conn, error) {
	c, err := NewConn(s)
	if err != nil {
		s.Close()
	}
	return c, err
}
