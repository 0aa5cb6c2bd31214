package evloop

import "golang.org/x/sys/unix"

// waker is a descriptor that becomes readable when another goroutine writes
// to it: an eventfd.
type waker struct{ fd int }

func newWaker() (waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	return waker{fd}, err
}

func (w waker) wake() error {
	_, err := unix.Write(w.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	if err == unix.EAGAIN { // the counter is full: it is readable already
		return nil
	}
	return err
}

func (w waker) drain() {
	var b [8]byte
	_, _ = unix.Read(w.fd, b[:])
}

func (w waker) close() error { return unix.Close(w.fd) }
