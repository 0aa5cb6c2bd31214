//go:build gate && linux

package worker

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ndferry/wire"
)

// straceCalls are the system calls of a server that strace lets fail, each with an errno that it may have, and how often.
var straceCalls = []struct{ call, errno string }{
	{"fdatasync", "EIO"}, {"fsync", "EIO"}, {"pwrite64", "ENOSPC"}, {"fallocate", "EDQUOT"}, {"openat", "EMFILE"}, {"mkdirat", "ENOSPC"}, {"renameat2", "EIO"}, {"accept4", "EMFILE"},
	{"pread64", "EIO"}, {"unlinkat", "EROFS"}, {"getdents64", "EIO"}, {"newfstatat", "EIO"}, {"fstat", "ENOMEM"}, {"ftruncate", "EIO"}, {"flock", "EIO"},
	{"close", "EIO"}, {"pwrite64", "EIO"}, {"fallocate", "ENOSPC"}, {"openat", "EROFS"},
	{"fdatasync", "EINTR"}, {"fsync", "EINTR"}, {"pwrite64", "EINTR"}, {"pread64", "EINTR"}, {"fallocate", "EINTR"}, {"flock", "EINTR"}, {"openat", "EINTR"}, {"renameat2", "EINTR"},
}

// TestGateStrace lets system calls of ndferry serve fail, from outside: what the seams of the code cannot show is whether what stands
// before them does as they say. One server lives through all of it. EINTR must not be noticed at all.
func TestGateStrace(t *testing.T) {
	k := newKiller(t, 1)
	k.store = quickStore(t)
	k.args = []string{"--workers", "0"} // strace looks at one process
	k.start()
	defer func() { k.stop() }()
	s := &errnoSweep{t: t, socket: k.socket, acked: map[string]uint64{}, maybe: map[string][]uint64{}}
	s.c = dial(t, "unix://"+k.socket)
	begin, calls, injected := time.Now(), straceCalls, 0
	if *errnoShare > 1 {
		calls = slices.Concat(calls[:8:8], calls[len(calls)-8:len(calls)-7])
	}
	for _, c := range calls {
		n := s.under(k, c.call, c.errno)
		injected += n
		if n == 0 {
			t.Errorf("%s of %s: not injected", c.errno, c.call)
		}
		if t.Failed() {
			t.Fatalf("%s of %s", c.errno, c.call)
		}
	}
	t.Logf("strace: tried=%d reached=%d injected=%d failed=0 seed=0 (%d arrays compared, %v)",
		len(calls), len(calls), injected, s.compared, time.Since(begin).Round(time.Second))
}

// under tells a story while strace lets calls of the server fail, and returns how many did.
func (s *errnoSweep) under(k *killer, call, errno string) int {
	s.t.Helper()
	s.network, s.code = call == "accept4", map[string]wire.Code{
		"EIO": wire.CodeInternal, "ENOSPC": wire.CodeNoSpace, "EDQUOT": wire.CodeNoSpace, "EROFS": wire.CodePermission, "EMFILE": wire.CodeTemporary, "ENOMEM": wire.CodeTemporary,
	}[errno]
	if errno == "EINTR" {
		s.code = "nothing at all"
	}
	waiting := s.bystander()
	out := filepath.Join(s.t.TempDir(), "trace")
	trace := exec.Command("strace", "-f", "-o", out, "-e", "trace="+call, "-e", "inject="+call+":error="+errno+":when=1+2", "-p", fmt.Sprint(k.server.Process.Pid))
	stderr, err := trace.StderrPipe()
	if err == nil {
		err = trace.Start()
	}
	if err != nil {
		s.t.Fatalf("strace: %v", err)
	}
	lines := bufio.NewScanner(stderr)
	if !lines.Scan() || !strings.Contains(lines.Text(), "attached") {
		s.t.Fatalf("strace says %q", lines.Text())
	}
	for range 3 {
		s.tell()
	}
	trace.Process.Signal(syscall.SIGINT)
	trace.Wait()
	waiting()
	s.settle()
	text, err := os.ReadFile(out)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Count(string(text), "(INJECTED)")
}
