package fdpass

import (
	"errors"

	"golang.org/x/sys/unix"
)

func peerCred(fd int) (Cred, error) {
	x, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Cred{}, err
	}
	return Cred{UID: x.Uid, GID: x.Groups[0]}, nil
}

func peerPidfd(int) (int, error) { return -1, errors.ErrUnsupported }
