//go:build linux || darwin || freebsd

package fdpass

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// PathConfig configures ListenPath. The zero value is the strict one.
type PathConfig struct {
	// Type of the socket; the zero value is Seqpacket.
	Type Type
	// Mode is the permission of the socket; 0 means 0600. It never is wider,
	// not even for a moment (on darwin the umask guards that moment).
	Mode fs.FileMode
	// SharedDir admits a directory that others may enter. One that others may
	// write must be sticky, as /tmp is. Without it the directory must be the
	// caller's own with mode 0700.
	SharedDir bool
	// Allow decides about peers by their credentials; nil is SameUser. Who
	// widens Mode wants AnyPeer here.
	Allow Allow
}

// PathListener is a Listener on a path that it owns.
//
// Its life is guarded by a lock file beside the socket (path + ".lock", flock),
// held until Close, so that of two starters one wins and a socket that a dead
// process left behind is taken over exactly once:
//
//	lock -> nothing there ------------------------------> bind
//	     -> socket, connect refused (stale) -> unlink --> bind
//	     -> socket, anyone answers ---------------------> ErrInUse
//	     -> not a socket -------------------------------> ErrNotSocket
//
// Close removes the socket if it still is the one that was bound, then the lock
// file. The socket's inode cannot be reused before: the listener pins it.
type PathListener struct {
	Listener
	path string // immutable after New
	own  fileID // immutable after New

	mu   sync.Mutex
	lock *os.File // guarded by mu; nil after Close
}

// ListenPath listens on path. The directory is made with mode 0700 if it is
// missing (its parent must exist).
//
// Errors to test for: ErrInUse (a live owner is never displaced), ErrNotSocket
// (what this package did not make is never unlinked), ErrDirectory, and those
// of package fs.
func ListenPath(path string, cfg PathConfig) (*PathListener, error) {
	if cfg.Mode == 0 {
		cfg.Mode = 0o600
	}
	if cfg.Mode&^fs.ModePerm != 0 {
		return nil, fmt.Errorf("fdpass: listen on %s: mode %v has more than permission bits", path, cfg.Mode)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("fdpass: listen on %s: %w", path, err)
	}
	l, err := listenPath(abs, cfg)
	if err != nil {
		return nil, fmt.Errorf("fdpass: listen on %s: %w", path, err)
	}
	return l, nil
}

func listenPath(path string, cfg PathConfig) (_ *PathListener, err error) {
	if err := checkDir(filepath.Dir(path), cfg.SharedDir); err != nil {
		return nil, err
	}
	lock, err := lockPath(path + ".lock")
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%s.lock is locked: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlockPath(lock)
		}
	}()
	if err := removeStale(path, cfg.Type); err != nil {
		return nil, err
	}
	ln, err := bindPath(path, cfg)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("another program bound it meanwhile: %w: %w", ErrInUse, err)
	}
	if err != nil {
		return nil, err
	}
	own, err := statSocket(path)
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("after bind: %w", err)
	}
	l := &PathListener{path: path, own: own, lock: lock}
	l.ln, l.allow = ln, cfg.Allow
	l.addr = net.UnixAddr{Name: path, Net: cfg.Type.String()}
	return l, nil
}

// bindPath binds and listens with cfg.Mode from the first moment. On Linux the
// mode of a socket file is that of the socket's own inode less the umask, so
// fchmod before bind narrows it; the chmod afterwards can only widen.
func bindPath(path string, cfg PathConfig) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var opErr error
		err := c.Control(func(fd uintptr) { opErr = presetMode(int(fd), uint32(cfg.Mode)) })
		return errors.Join(err, opErr)
	}}
	var ln *net.UnixListener
	err := withSockName(path, func(name string) error {
		l, err := lc.Listen(context.Background(), cfg.Type.String(), name)
		if err != nil {
			return err
		}
		ln = l.(*net.UnixListener)
		ln.SetUnlinkOnClose(false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, cfg.Mode); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// Close stops accepting, removes the socket if the path still leads to it, and
// releases the lock. Closing again does nothing.
func (l *PathListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return nil
	}
	var err error
	if id, statErr := statSocket(l.path); statErr == nil && id == l.own {
		err = os.Remove(l.path)
	}
	err = errors.Join(err, l.ln.Close(), unlockPath(l.lock))
	l.lock = nil
	if err != nil {
		return fmt.Errorf("fdpass: close %s: %w", l.path, err)
	}
	return nil
}

// checkDir makes dir with mode 0700 if it is missing, and returns an error that
// matches ErrDirectory when others could replace what lies in it.
func checkDir(dir string, shared bool) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory: %w", dir, ErrDirectory)
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	perm, euid := info.Mode().Perm(), os.Geteuid()
	if shared {
		if owner != euid && owner != 0 {
			return fmt.Errorf("%s belongs to uid %d, neither to this user nor to root: %w", dir, owner, ErrDirectory)
		}
		if perm&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
			return fmt.Errorf("%s (mode %04o) may be written by others and is not sticky: %w", dir, perm, ErrDirectory)
		}
		return nil
	}
	if owner != euid {
		return fmt.Errorf("%s belongs to uid %d, not to this user (%d): %w", dir, owner, euid, ErrDirectory)
	}
	if perm&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, want 0700: %w", dir, perm, ErrDirectory)
	}
	return nil
}

// removeStale unlinks the socket at path when nobody answers on it.
func removeStale(path string, typ Type) error {
	before, err := statSocket(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if uid := before.uid; uid != uint32(os.Geteuid()) {
		return fmt.Errorf("the socket there belongs to uid %d, not to this user: %w", uid, ErrInUse)
	}
	if err := probe(path, typ); !errors.Is(err, unix.ECONNREFUSED) {
		if err == nil {
			return ErrInUse
		}
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	after, err := statSocket(path)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("it changed while it was looked at: %w", ErrInUse)
	}
	return os.Remove(path)
}

// probe connects to path without waiting. ECONNREFUSED alone says that nobody
// listens: a full queue gives EAGAIN and a socket of another type EPROTOTYPE,
// both from a live owner.
func probe(path string, typ Type) error {
	sotype := unix.SOCK_SEQPACKET
	if typ == Stream {
		sotype = unix.SOCK_STREAM
	}
	fd, err := socket(sotype)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return withSockName(path, func(name string) error {
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
			return err
		}
		if cred, err := peerCred(fd); err == nil && cred.PID != 0 {
			return fmt.Errorf("pid %d answers", cred.PID)
		}
		return nil
	})
}

// fileID tells one socket file from another.
type fileID struct {
	dev, ino uint64
	uid      uint32
}

// statSocket identifies the socket at path. It follows no symbolic link.
func statSocket(path string) (fileID, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return fileID{}, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fileID{}, fmt.Errorf("a %s lies there: %w", fileKind(info.Mode()), ErrNotSocket)
	}
	st := info.Sys().(*syscall.Stat_t)
	return fileID{dev: uint64(st.Dev), ino: uint64(st.Ino), uid: st.Uid}, nil
}

func fileKind(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "regular file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeNamedPipe:
		return "named pipe"
	}
	return "device"
}
