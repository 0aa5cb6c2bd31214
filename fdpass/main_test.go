//go:build linux

package fdpass

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roles are what the test binary does when a test starts it again as another
// process; the role's name is in the environment, its arguments follow.
var roles = map[string]func(args []string) error{
	"listen":   roleListen,
	"echo":     roleEcho,
	"dial":     roleDial,
	"inflight": roleInFlight,
}

const roleEnv = "FDPASS_TEST_ROLE"

func TestMain(m *testing.M) {
	if name := os.Getenv(roleEnv); name != "" {
		if err := roles[name](os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is another process of a test.
type child struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startRole starts the test binary as role. The process is killed and waited
// for when the test ends.
func startRole(t testing.TB, role string, files []*os.File, args ...string) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.ExtraFiles = files
	return startChild(t, cmd)
}

func startChild(t testing.TB, cmd *exec.Cmd) *child {
	t.Helper()
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		in.Close()
		out.Close()
	})
	return &child{Cmd: cmd, in: in, out: bufio.NewScanner(out)}
}

// line returns the child's next line of output.
func (c *child) line(t testing.TB) string {
	t.Helper()
	if !c.out.Scan() {
		t.Fatalf("child ended without the expected line: %v", c.out.Err())
	}
	return c.out.Text()
}

// audit fails the test at its end if a descriptor was left open, and at once if
// one would be inherited. Call it before anything that registers a Cleanup.
func audit(t testing.TB) {
	t.Helper()
	warmPoller(t)
	before := openFDs(t)
	t.Cleanup(func() {
		deadline := time.Now().Add(2 * time.Second)
		for {
			left := diffFDs(before, openFDs(t))
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("descriptors left open: %v", left)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// auditCloexec fails the test if any descriptor above 2 lacks close-on-exec.
func auditCloexec(t testing.TB) {
	t.Helper()
	for fd, target := range openFDs(t) {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && fd > 2 && flags&unix.FD_CLOEXEC == 0 && !inheritedAtStart[fd] {
			t.Errorf("descriptor %d (%s) is not close-on-exec", fd, target)
		}
	}
}

// inheritedAtStart are descriptors that whoever ran the tests left open.
var inheritedAtStart = func() map[int]bool {
	inherited := make(map[int]bool)
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			inherited[fd] = true
		}
	}
	return inherited
}()

// warmPoller makes the runtime open its own descriptors (epoll, eventfd, the
// pidfd probe) before they are counted.
func warmPoller(t testing.TB) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
}

func openFDs(t testing.TB) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	fds := make(map[int]string, len(entries))
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if errors.Is(err, os.ErrNotExist) || strings.HasPrefix(target, "/proc/") {
			continue
		}
		fd, _ := strconv.Atoi(e.Name())
		fds[fd] = target
	}
	return fds
}

func diffFDs(before, after map[int]string) []string {
	var left []string
	for fd, target := range after {
		if before[fd] != target {
			left = append(left, fmt.Sprintf("%d=%s", fd, target))
		}
	}
	return left
}

// privateDir returns a new directory with mode 0700 and a short name.
func privateDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fdpass")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// roleListen owns a path until it is killed or its input ends.
func roleListen(args []string) error {
	l, err := ListenPath(args[0], PathConfig{Type: Stream})
	if errors.Is(err, ErrInUse) {
		fmt.Println("in use")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("owner")
	io.Copy(io.Discard, os.Stdin)
	return l.Close()
}

func mustStat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Lstat(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}
