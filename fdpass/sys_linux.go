package fdpass

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxSockName is what sun_path holds beside its final zero byte; unix(7).
const maxSockName = 107

// socket opens a non-blocking, close-on-exec Unix socket.
func socket(sotype int) (int, error) {
	return unix.Socket(unix.AF_UNIX, sotype|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

// presetMode sets the mode that bind will give to the socket file.
func presetMode(fd int, mode uint32) error { return unix.Fchmod(fd, mode) }

// withSockName calls fn with a name for path that fits into an address: path
// itself, or for a long one its base name below an open descriptor of its
// directory.
func withSockName(path string, fn func(name string) error) error {
	if len(path) <= maxSockName {
		return fn(path)
	}
	dir, base := filepath.Split(path)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	short := "/proc/self/fd/" + strconv.Itoa(fd) + "/" + base
	if len(short) > maxSockName {
		return fmt.Errorf("name of %d bytes does not fit into a socket address", len(base))
	}
	return fn(short)
}
