//go:build darwin || freebsd

package evloop

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// waker is a descriptor that becomes readable when another goroutine writes
// to it: the reading end of a pipe, with the writing end beside it.
type waker struct{ fd, w int }

func newWaker() (waker, error) {
	var p [2]int
	syscall.ForkLock.RLock() // no child may inherit the pair before it is close-on-exec
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p[:]); err != nil {
		return waker{}, err
	}
	for _, fd := range p {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			_ = unix.Close(p[0])
			_ = unix.Close(p[1])
			return waker{}, err
		}
	}
	return waker{p[0], p[1]}, nil
}

func (w waker) wake() error {
	_, err := unix.Write(w.w, []byte{1})
	if err == unix.EAGAIN { // the pipe is full: it is readable already
		return nil
	}
	return err
}

func (w waker) drain() {
	var b [64]byte
	for {
		if n, _ := unix.Read(w.fd, b[:]); n < len(b) {
			return
		}
	}
}

func (w waker) close() error {
	_ = unix.Close(w.w)
	return unix.Close(w.fd)
}
