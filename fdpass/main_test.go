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
	"syscall"
	"testing"

	"ndferry/fdpass/fdtest"
)

// roles are what the test binary does when a test starts it again as another
// process; the role's name is in the environment, its arguments follow.
var roles = map[string]func(args []string) error{
	"listen":   roleListen,
	"echo":     roleEcho,
	"dial":     roleDial,
	"inflight": roleInFlight,
	"nobody":   roleNobody,
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
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
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

// audit fails the test at its end if a descriptor was left open or would be
// inherited. Call it before anything that registers a Cleanup.
func audit(t testing.TB) { t.Helper(); fdtest.Audit(t) }

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
