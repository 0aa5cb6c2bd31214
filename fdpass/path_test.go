//go:build linux

package fdpass

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
)

func TestListenPath(t *testing.T) {
	for _, typ := range []Type{Seqpacket, Stream} {
		t.Run(typ.String(), func(t *testing.T) {
			audit(t)
			dir := filepath.Join(privateDir(t), "made")
			path := filepath.Join(dir, "s")
			l, err := ListenPath(path, PathConfig{Type: typ})
			if err != nil {
				t.Fatal(err)
			}
			fdtest.Cloexec(t)
			if mode := mustStat(t, path).Mode & 0o777; mode != 0o600 {
				t.Errorf("socket has mode %o, want 600", mode)
			}
			if mode := mustStat(t, dir).Mode & 0o777; mode != 0o700 {
				t.Errorf("directory has mode %o, want 700", mode)
			}
			if got := l.Addr().String(); got != path {
				t.Errorf("address %q, want %q", got, path)
			}
			c, err := net.Dial(typ.String(), path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			s.Close()
			if err := errors.Join(l.Close(), l.Close()); err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept after close: %v, want net.ErrClosed", err)
			}
		})
	}
}

func TestListenPath_mode(t *testing.T) {
	audit(t)
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	path := filepath.Join(privateDir(t), "s")
	l, err := ListenPath(path, PathConfig{Mode: 0o666, Allow: AnyPeer})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if mode := mustStat(t, path).Mode & 0o777; mode != 0o666 {
		t.Errorf("socket has mode %o, want 666 whatever the umask", mode)
	}
	if _, err := ListenPath(path+"2", PathConfig{Mode: 0o600 | fs.ModeSetuid}); err == nil {
		t.Error("a mode with setuid was taken")
	}
}

// The tutorial's receiver unlinks whatever lies at its path.
func TestListenPath_neverUnlinksWhatItDidNotMake(t *testing.T) {
	make := map[string]func(string) error{
		"file":    func(p string) error { return os.WriteFile(p, []byte("precious"), 0o600) },
		"dir":     func(p string) error { return os.Mkdir(p, 0o700) },
		"symlink": func(p string) error { return os.Symlink("/nowhere", p) },
		"fifo":    func(p string) error { return unix.Mkfifo(p, 0o600) },
	}
	for name, mk := range make {
		t.Run(name, func(t *testing.T) {
			audit(t)
			path := filepath.Join(privateDir(t), "s")
			if err := mk(path); err != nil {
				t.Fatal(err)
			}
			before := mustStat(t, path).Ino
			_, err := ListenPath(path, PathConfig{})
			if !errors.Is(err, ErrNotSocket) {
				t.Errorf("got %v, want ErrNotSocket", err)
			}
			if after := mustStat(t, path).Ino; after != before {
				t.Error("what lay at the path was replaced")
			}
			if _, err := os.Lstat(path + ".lock"); !errors.Is(err, fs.ErrNotExist) {
				t.Error("the lock file was left behind")
			}
		})
	}
}

func TestListenPath_liveOwner(t *testing.T) {
	for _, typ := range []Type{Seqpacket, Stream} {
		t.Run("foreign "+typ.String(), func(t *testing.T) {
			audit(t)
			path := filepath.Join(privateDir(t), "s")
			// An owner that knows nothing of the lock file, of either type.
			owner, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer owner.Close()
			if _, err := ListenPath(path, PathConfig{Type: typ}); !errors.Is(err, ErrInUse) {
				t.Fatalf("got %v, want ErrInUse", err)
			}
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatalf("the live owner was displaced: %v", err)
			}
			c.Close()
		})
	}
	t.Run("full queue", func(t *testing.T) {
		audit(t)
		path := filepath.Join(privateDir(t), "s")
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		first, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		_, err = ListenPath(path, PathConfig{Type: Stream})
		if !errors.Is(err, ErrInUse) || !errors.Is(err, unix.EAGAIN) {
			t.Fatalf("got %v, want ErrInUse because of EAGAIN", err)
		}
	})
	t.Run("another process", func(t *testing.T) {
		audit(t)
		path := filepath.Join(privateDir(t), "s")
		owner := startRole(t, "listen", nil, path)
		if got := owner.line(t); got != "owner" {
			t.Fatal(got)
		}
		if _, err := ListenPath(path, PathConfig{Type: Stream}); !errors.Is(err, ErrInUse) {
			t.Fatalf("got %v, want ErrInUse", err)
		}
	})
}

// Many processes start at once over the socket of one that was killed: exactly
// one of them takes it over, every time.
func TestListenPath_takeoverHasOneWinner(t *testing.T) {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	for round := range 5 {
		dead := startRole(t, "listen", nil, path)
		if got := dead.line(t); got != "owner" {
			t.Fatalf("round %d: first starter says %q", round, got)
		}
		dead.Process.Kill()
		dead.Wait()
		if err := probe(path, Stream); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("round %d: killed owner left no stale socket: %v", round, err)
		}
		var starters []*child
		for range 4 {
			starters = append(starters, startRole(t, "listen", nil, path))
		}
		owners := 0
		for _, s := range starters {
			if s.line(t) == "owner" {
				owners++
			}
		}
		if owners != 1 {
			t.Fatalf("round %d: %d owners, want 1", round, owners)
		}
		for _, s := range starters {
			s.in.Close()
			if err := s.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) != 0 {
			t.Fatalf("round %d: left behind: %v", round, left)
		}
	}
}

func TestPathListener_closeRemovesOnlyItsOwn(t *testing.T) {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	l, err := ListenPath(path, PathConfig{Type: Stream})
	if err != nil {
		t.Fatal(err)
	}
	// A careless program unlinks the path and binds its own socket there.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("close removed a socket that it had not made: %v", err)
	}
	c.Close()
}

func TestListenPath_directory(t *testing.T) {
	for _, tc := range []struct {
		name   string
		mode   fs.FileMode
		uid    int
		shared bool
		want   error
	}{
		{"private", 0o700, 0, false, nil},
		{"others may enter", 0o755, 0, false, ErrDirectory},
		{"group may enter", 0o750, 0, false, ErrDirectory},
		{"another's", 0o700, 12345, false, ErrDirectory},
		{"shared, others may enter", 0o755, 0, true, nil},
		{"shared, sticky", 0o777 | fs.ModeSticky, 0, true, nil},
		{"shared, others may write", 0o777, 0, true, ErrDirectory},
		{"shared, another's", 0o755, 12345, true, ErrDirectory},
	} {
		t.Run(tc.name, func(t *testing.T) {
			audit(t)
			dir := privateDir(t)
			if err := errors.Join(os.Chown(dir, tc.uid, -1), os.Chmod(dir, tc.mode)); err != nil {
				t.Fatalf("this test needs root: %v", err)
			}
			l, err := ListenPath(filepath.Join(dir, "s"), PathConfig{SharedDir: tc.shared})
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err == nil {
				l.Close()
			}
		})
	}
}

func TestListenPath_lockOfAnotherUser(t *testing.T) {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	if err := os.WriteFile(path+".lock", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path+".lock", 12345, -1); err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	if _, err := ListenPath(path, PathConfig{}); err == nil || !strings.Contains(err.Error(), "12345") {
		t.Fatalf("got %v, want an error that names the owner", err)
	}
}

func TestListenPath_longPath(t *testing.T) {
	audit(t)
	dir := filepath.Join(privateDir(t), strings.Repeat("d", 120))
	path := filepath.Join(dir, "s")
	l, err := ListenPath(path, PathConfig{Type: Stream})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if err := probe(path, Stream); err != nil && !strings.Contains(err.Error(), "answers") {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenPath(filepath.Join(dir, strings.Repeat("x", 150)), PathConfig{}); err == nil {
		t.Error("a base name that fits nowhere was taken")
	}
}

func TestListener_peerOfAnotherUser(t *testing.T) {
	audit(t)
	dir := privateDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := ListenPath(path, PathConfig{Mode: 0o666, SharedDir: true, Type: Stream})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd := dialAs(t, 12345, path)
	defer unix.Close(fd)
	checkDenied(t, &l.Listener)
	if err := l.Permit(fd); err != nil {
		t.Errorf("the listener's own user is refused: %v", err)
	}
}

// checkDenied has the one peer that waits refused, and nobody accepted.
func checkDenied(t *testing.T, l *Listener) {
	t.Helper()
	for denied := false; !denied; { // again when the deadline passed before there was a try
		denied = l.Denied() > 0
		l.SetDeadline(time.Now().Add(50 * time.Millisecond))
		if c, err := l.Accept(); !errors.Is(err, ErrTimeout) {
			t.Fatalf("accepted %v, %v; want a timeout because the peer is refused", c, err)
		}
	}
	if got := l.Denied(); got != 1 {
		t.Errorf("denied %d, want 1", got)
	}
}

// dialAs connects to path as another user: on Linux the user belongs to the
// thread, and a thread that is never unlocked ends with its goroutine.
func dialAs(t testing.TB, uid int, path string) int {
	t.Helper()
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- result{-1, errno}
			return
		}
		fd, err := socket(unix.SOCK_STREAM)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatalf("connect as uid %d (this test needs root): %v", uid, r.err)
	}
	return r.fd
}
