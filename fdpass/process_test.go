//go:build linux

package fdpass

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
)

// roleEcho returns every message with its descriptors, until the end.
func roleEcho([]string) error {
	c, err := Inherited(3)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 1<<16)
	for {
		n, files, err := c.Recv(buf)
		if errors.Is(err, ErrPeerGone) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.SendFDs(buf[:n], files.fds...); err != nil {
			return err
		}
		files.Close()
	}
}

func startEcho(t testing.TB) (*Conn, *child) {
	t.Helper()
	c, f, err := PairFile(Seqpacket)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c, startRole(t, "echo", []*os.File{f})
}

func TestInherited(t *testing.T) {
	audit(t)
	c, _ := startEcho(t)
	files, same := memfds(t, 70)
	for round := range 20 {
		if err := c.Send([]byte("ball"), conns(files)...); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		n, set, err := c.Recv(buf)
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Expect(len(files)); err != nil || string(buf[:n]) != "ball" {
			t.Fatalf("round %d: %q, %v", round, buf[:n], err)
		}
		if !same(set.Peek(69), 69) {
			t.Fatal("another file came back")
		}
		set.Close()
	}
}

func TestInherited_refuses(t *testing.T) {
	audit(t)
	if _, err := Inherited(99999); !errors.Is(err, unix.EBADF) {
		t.Errorf("closed number: %v", err)
	}
	if _, err := Inherited(0); err == nil {
		t.Error("standard input was taken for a Unix socket")
	}
}

// SIGKILL of the peer: seen as the end, by pidfd too, with nothing leaked.
func TestPeer_killed(t *testing.T) {
	audit(t)
	c, peer := startEcho(t)
	files, _ := memfds(t, 1)
	if err := c.Send([]byte("x"), files[0]); err != nil {
		t.Fatal(err)
	}
	if _, set, err := c.Recv(make([]byte, 10)); err != nil {
		t.Fatal(err)
	} else {
		set.Close()
	}
	peer.Process.Signal(syscall.SIGSTOP)
	fill(t, c) // its queue is full of messages it will never read
	c.SetDeadline(time.Now().Add(time.Minute))
	peer.Process.Kill()
	for {
		_, set, err := c.Recv(make([]byte, 2048))
		if errors.Is(err, ErrPeerGone) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		set.Close()
	}
	if err := c.Send([]byte("x"), files[0]); !errors.Is(err, ErrPeerGone) {
		t.Fatalf("send to a dead process: %v", err)
	}
}

// roleDial connects to a path and stays until its input ends.
func roleDial(args []string) error {
	c, err := DialPath(context.Background(), args[0], DialConfig{})
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("connected")
	os.Stdin.Read(make([]byte, 1))
	return nil
}

func TestPeerCred_andPidfd(t *testing.T) {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	l, err := ListenPath(path, PathConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer := startRole(t, "dial", nil, path)
	c, err := l.AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer.line(t)
	cred, err := c.PeerCred()
	if err != nil {
		t.Fatal(err)
	}
	if want := (Cred{PID: peer.Process.Pid, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}); cred != want {
		t.Errorf("got %+v, want %+v", cred, want)
	}
	pidfd, err := c.PeerPidfd()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	fdtest.Cloexec(t)
	if ended(t, pidfd, 0) {
		t.Fatal("the pidfd says that a live process has ended")
	}
	peer.Process.Kill()
	if !ended(t, pidfd, time.Minute) {
		t.Fatal("the pidfd does not tell the end of the process")
	}
}

// A user that the namespace does not know looks like many others, also to a
// process that runs as that number.
func TestSameUser(t *testing.T) {
	for uid, want := range map[uint32]bool{0: true, uint32(os.Geteuid()): true, 12345: os.Geteuid() == 12345, overflowUID: false} {
		if got := SameUser(Cred{PID: 1, UID: uid}); got != want {
			t.Errorf("uid %d: %v, want %v", uid, got, want)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=nobody", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: overflowUID, Gid: overflowUID}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("this test needs root: %v: %s", err, out)
	}
}

func roleNobody([]string) error {
	if SameUser(Cred{UID: uint32(os.Geteuid())}) {
		return errors.New("an unknown user is taken for this one")
	}
	return nil
}

func ended(t testing.TB, pidfd int, wait time.Duration) bool {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, int(wait.Milliseconds()))
	for err == unix.EINTR {
		n, err = unix.Poll(p, int(wait.Milliseconds()))
	}
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

// roleInFlight fills the quota of its user and reports what Send says.
func roleInFlight([]string) error {
	limit := unix.Rlimit{Cur: 64, Max: 64}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	a, b, err := Pair(Seqpacket)
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	sent := 0
	for ; sent < 1000; sent++ {
		for err = ErrTimeout; errors.Is(err, ErrTimeout) && !errors.Is(err, ErrInFlight); { // it may pass before there was a try
			a.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
			err = a.SendFDs([]byte("x"), 0)
		}
		if err != nil {
			break
		}
	}
	if !errors.Is(err, ErrInFlight) || !errors.Is(err, ErrTimeout) || !errors.Is(err, unix.ETOOMANYREFS) {
		return fmt.Errorf("after %d: %w", sent, err)
	}
	// Back-pressure: a Send that waits goes on as soon as there is room.
	a.SetWriteDeadline(time.Now().Add(time.Minute))
	done := make(chan error)
	go func() { done <- a.SendFDs([]byte("waited"), 0) }()
	for range sent {
		_, files, err := b.Recv(make([]byte, 10))
		if err != nil {
			return err
		}
		files.Close()
	}
	if err := <-done; err != nil {
		return fmt.Errorf("the Send that waited: %w", err)
	}
	_, files, err := b.Recv(make([]byte, 10))
	if err != nil {
		return err
	}
	defer files.Close()
	return files.Expect(1)
}

// ETOOMANYREFS counts per user and spares root: this needs root to become
// another user.
func TestSend_tooManyInFlight(t *testing.T) {
	audit(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=inflight", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestDialPath(t *testing.T) {
	for _, typ := range []Type{Seqpacket, Stream} {
		t.Run(typ.String(), func(t *testing.T) {
			audit(t)
			path := filepath.Join(privateDir(t), "s")
			if _, err := DialPath(t.Context(), path, DialConfig{Type: typ}); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("nothing there: %v", err)
			}
			l, err := ListenPath(path, PathConfig{Type: typ})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := DialPath(t.Context(), path, DialConfig{Type: typ})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.AcceptConn()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			files, same := memfds(t, 1)
			if err := c.Send([]byte("x"), files[0]); err != nil {
				t.Fatal(err)
			}
			_, set, err := s.Recv(make([]byte, 1))
			if err != nil || !same(set.Peek(0), 0) {
				t.Fatal(err)
			}
			set.Close()
			nobody := func(Cred) bool { return false }
			if _, err := DialPath(t.Context(), path, DialConfig{Type: typ, Allow: nobody}); !errors.Is(err, ErrPeerDenied) {
				t.Fatalf("a listener that is not allowed: %v", err)
			}
		})
	}
}

func TestDialPath_nobodyListens(t *testing.T) {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	dead := startRole(t, "listen", nil, path)
	dead.line(t)
	dead.Process.Kill()
	dead.Wait()
	if _, err := DialPath(t.Context(), path, DialConfig{Type: Stream}); !errors.Is(err, ErrPeerGone) {
		t.Fatalf("got %v", err)
	}
}

// A full queue is waited for, until the deadline.
func TestDialPath_fullQueue(t *testing.T) {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	fd, err := socket(unix.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := DialPath(t.Context(), path, DialConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := DialPath(ctx, path, DialConfig{}); !errors.Is(err, ErrTimeout) {
		t.Fatalf("got %v, want a timeout", err)
	}
	done := make(chan error)
	go func() {
		c, err := DialPath(t.Context(), path, DialConfig{})
		if err == nil {
			err = c.Close()
		}
		done <- err
	}()
	accepted, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(accepted)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAbstract(t *testing.T) {
	audit(t)
	name := fmt.Sprintf("fdpass-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	l, err := ListenAbstract(name, AbstractConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := ListenAbstract(name, AbstractConfig{}); !errors.Is(err, ErrInUse) {
		t.Errorf("taken name: %v", err)
	}
	for _, bad := range []string{"", "a\x00b", string(make([]byte, 200))} {
		if _, err := ListenAbstract(bad, AbstractConfig{}); err == nil {
			t.Errorf("name %q was taken", bad)
		}
	}
	c, err := DialAbstract(t.Context(), name, DialConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fdtest.Cloexec(t)
}

// A squatter of another user takes an abstract name; another user connects to
// ours. Both are refused, though the kernel lets them.
func TestAbstract_anotherUser(t *testing.T) {
	audit(t)
	name := fmt.Sprintf("fdpass-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	l, err := ListenAbstract(name, AbstractConfig{Type: Stream})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd := dialAs(t, 12345, "@"+name)
	defer unix.Close(fd)
	checkDenied(t, l)

	squat, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 12345, 12345, 12345)
		var squatter *Listener
		var err error
		if errno != 0 {
			err = errno
		} else {
			squatter, err = ListenAbstract(name+"2", AbstractConfig{Allow: AnyPeer})
		}
		squat <- err
		<-done
		if squatter != nil {
			squatter.Close()
		}
		close(squat)
	}()
	if err := <-squat; err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	if _, err := DialAbstract(t.Context(), name+"2", DialConfig{}); !errors.Is(err, ErrPeerDenied) {
		t.Errorf("connected to a squatter: %v", err)
	}
	close(done)
	<-squat
}

// What this package opens and receives is not for children.
func TestChildren_inheritNothing(t *testing.T) {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	l, err := ListenPath(path, PathConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, b := pair(t, Seqpacket)
	files, _ := memfds(t, 20)
	if err := a.Send([]byte("x"), conns(files)...); err != nil {
		t.Fatal(err)
	}
	_, set, err := b.Recv(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	out, err := exec.Command("ls", "-l", "/proc/self/fd").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		name, target, ok := strings.Cut(line, " -> ")
		if !ok {
			continue
		}
		fd, _ := strconv.Atoi(name[strings.LastIndex(name, " ")+1:])
		if fd > 2 && !fdtest.Inherited(fd) && !strings.HasPrefix(target, "/proc/") {
			t.Errorf("a child inherits %d, %s", fd, target)
		}
	}
}
