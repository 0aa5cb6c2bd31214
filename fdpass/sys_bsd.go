//go:build darwin || freebsd

package fdpass

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSockName is what sun_path holds beside its final zero byte; unix(4).
const maxSockName = 103

// socket opens a non-blocking, close-on-exec Unix socket.
func socket(sotype int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(unix.AF_UNIX, sotype, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// presetMode does nothing: a socket has no mode before it is bound here.
func presetMode(int, uint32) error { return nil }

func withSockName(path string, fn func(name string) error) error {
	if len(path) > maxSockName {
		return fmt.Errorf("path of %d bytes does not fit into a socket address (at most %d)", len(path), maxSockName)
	}
	return fn(path)
}
