package client

import (
	"os"

	"golang.org/x/sys/unix"
)

// dataSync makes bytes and size of a file durable.
func dataSync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
