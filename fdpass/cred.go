//go:build linux || darwin || freebsd

package fdpass

import (
	"fmt"
	"os"
	"syscall"
)

// overflowUID is what the kernel shows for a user that the receiver's user
// namespace does not map; many different users look like it.
const overflowUID = 65534

// Cred says who the other end of a Unix socket was when it connected, listened
// or made the pair. The kernel freezes these values at that moment: an
// inherited socket shows the process that made it, and a process number may
// have been given to another process since. Decide on UID, not on PID; where
// the process matters use [Conn.PeerPidfd].
type Cred struct {
	PID int // 0 where the system does not tell
	UID uint32
	GID uint32
}

// Allow decides whether a peer may use a socket. It must be safe to call from
// several goroutines.
type Allow func(Cred) bool

// SameUser allows peers that run as this process's effective user, and root.
// It is what a nil Allow means.
func SameUser(c Cred) bool {
	if c.UID == overflowUID {
		return false
	}
	return c.UID == 0 || int(c.UID) == os.Geteuid()
}

// AnyPeer allows every peer: the file mode of the path is then the only guard.
func AnyPeer(Cred) bool { return true }

func (a Allow) allows(c Cred) bool {
	if a == nil {
		return SameUser(c)
	}
	return a(c)
}

// PeerCred returns the credentials of the other end of a connected Unix
// socket. It borrows s.
func PeerCred(s syscall.Conn) (Cred, error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return Cred{}, fmt.Errorf("fdpass: peer credentials: %w", err)
	}
	var cred Cred
	var opErr error
	if err := raw.Control(func(fd uintptr) { cred, opErr = peerCred(int(fd)) }); err != nil {
		return Cred{}, fmt.Errorf("fdpass: peer credentials: %w", err)
	}
	if opErr != nil {
		return Cred{}, fmt.Errorf("fdpass: peer credentials: %w", opErr)
	}
	return cred, nil
}

// checkPeer returns an error that matches ErrPeerDenied unless allow accepts
// the peer of s.
func checkPeer(op string, s syscall.Conn, allow Allow) error {
	cred, err := PeerCred(s)
	if err != nil {
		return err
	}
	if !allow.allows(cred) {
		return fmt.Errorf("fdpass: %s: peer runs as uid %d (pid %d): %w", op, cred.UID, cred.PID, ErrPeerDenied)
	}
	return nil
}
