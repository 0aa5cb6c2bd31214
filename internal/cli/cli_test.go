package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store"
	"ndferry/wire"
)

// patience is for what must happen: it bounds a test that hangs, and judges nothing.
const patience = time.Minute

// TestMain lets the test binary stand in for the programs that the scripts
// run: each runs as a process of its own, under the test's instrumentation.
func TestMain(m *testing.M) { testscript.Main(m, scriptPrograms) }

// newTestApp returns an app over buffers with a fixed environment.
func newTestApp(env map[string]string) (a *app, stdout, stderr *strings.Builder) {
	stdout, stderr = new(strings.Builder), new(strings.Builder)
	a = &app{stdin: strings.NewReader(""), stdout: stdout, stderr: stderr,
		lookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	return a, stdout, stderr
}

func TestExitCode(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("store: put: %w", err) }
	tests := []struct {
		err  error
		want int
	}{
		{nil, ExitOK},
		{errors.New("x"), ExitOther},
		{usageErrorf("x"), ExitUsage},
		{wrap(&ExitError{ExitIntegrity, fs.ErrExist}), ExitIntegrity},
		{wrap(&client.Error{Code: wire.CodeBusy, Err: errors.New("x")}), ExitTemporary},
		{wrap(&client.Error{Code: wire.CodeInternal, Err: errors.New("x")}), ExitOther},
		{wrap(&client.Error{Code: wire.CodeInternal, Err: syscall.ENOSPC}), ExitLimit},
		{wrap(fs.ErrPermission), ExitFatal},
		{wrap(syscall.EROFS), ExitFatal},
		{wrap(store.ErrLocked), ExitConflict},
		{wrap(array.ErrNPY), ExitUsage},
		{wrap(context.DeadlineExceeded), ExitDeadline},
		{wrap(context.Canceled), ExitOther},
		{wrap(os.ErrDeadlineExceeded), ExitDeadline},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, ExitDeadline},
		{&net.DNSError{IsTimeout: true}, ExitDeadline},
		{&fs.PathError{Op: "write", Err: syscall.ENOSPC}, ExitLimit},
		{wrap(syscall.EDQUOT), ExitLimit},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, ExitNoServer},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENOENT)}, ExitNoServer},
		{&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, ExitConflict},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, ExitTemporary},
		{&fs.PathError{Op: "open", Err: syscall.EEXIST}, ExitConflict},
		{&fs.PathError{Op: "open", Err: syscall.ENOENT}, ExitOther},
	}
	for _, tt := range tests {
		if got := ExitCode(tt.err); got != tt.want {
			t.Errorf("ExitCode(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
	_, err := net.Dial("tcp", "127.0.0.1:1")
	if got := ExitCode(err); got != ExitNoServer {
		t.Errorf("ExitCode(%v) = %d, want %d", err, got, ExitNoServer)
	}
}

func TestExitMeanings(t *testing.T) {
	said := map[int]bool{}
	for _, line := range exitMeanings {
		said[line.code] = true
	}
	for _, line := range exitCodes {
		if !said[line.code] {
			t.Errorf("code %d of %v is not in the help", line.code, line.target)
		}
	}
}

func TestApplyEnv(t *testing.T) {
	build := func(a *app) (*cobra.Command, *[]string, *sizeValue) {
		cmd := &cobra.Command{Use: "x"}
		list := cmd.Flags().StringArray("listen", nil, "")
		size := new(sizeValue)
		cmd.Flags().Var(size, "chunk-size", "")
		return cmd, list, size
	}
	env := map[string]string{"NDFERRY_LISTEN": "a,b", "NDFERRY_CHUNK_SIZE": "64k"}
	a, _, _ := newTestApp(env)
	cmd, list, size := build(a)
	if err := a.applyEnv(cmd.Flags()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(*list, *size); got != "[a b] 65536" || !cmd.Flags().Changed("chunk-size") {
		t.Errorf("from the environment: %s", got)
	}

	cmd, list, size = build(a)
	if err := cmd.Flags().Parse([]string{"--listen", "c", "--chunk-size", "1"}); err != nil {
		t.Fatal(err)
	}
	if err := a.applyEnv(cmd.Flags()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(*list, *size); got != "[c] 1" {
		t.Errorf("the flag does not beat the environment: %s", got)
	}

	env["NDFERRY_CHUNK_SIZE"] = "lots"
	cmd, _, _ = build(a)
	err := a.applyEnv(cmd.Flags())
	if ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), `NDFERRY_CHUNK_SIZE="lots"`) {
		t.Errorf("got %v", err)
	}
}

func TestPrintResult(t *testing.T) {
	result := map[string]any{"b": 1, "a": "x"}
	text := func(w io.Writer) error { _, err := io.WriteString(w, "plain\n"); return err }
	for _, tt := range []struct {
		json bool
		want string
	}{{false, "plain\n"}, {true, `{"a":"x","b":1}` + "\n"}} {
		a, stdout, stderr := newTestApp(nil)
		a.json = tt.json
		if err := a.printResult(result, text); err != nil {
			t.Fatal(err)
		}
		if stdout.String() != tt.want || stderr.String() != "" {
			t.Errorf("json=%v: stdout %q, stderr %q", tt.json, stdout, stderr)
		}
	}
}

// TestCommands holds every command to the conventions.
func TestCommands(t *testing.T) {
	a, _, _ := newTestApp(nil)
	root := newRoot(a)
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd != root && cmd.PersistentPreRunE != nil || cmd.PersistentPreRun != nil {
			t.Errorf("%s: a persistent pre-run replaces the one that reads the environment", cmd.CommandPath())
		}
		if strings.HasPrefix(cmd.CommandPath(), "ndferry completion") {
			return // cobra's own
		}
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: help needs a short text and an example", cmd.CommandPath())
		}
	})
}

func TestAddrFlag(t *testing.T) {
	cmd := &cobra.Command{Use: "x"}
	addr := addAddrFlag(cmd)
	if addr.String() != "tcp://127.0.0.1:9000" {
		t.Errorf("default %v", addr)
	}
	if err := cmd.Flags().Parse([]string{"--addr", "unix:///run/x.sock"}); err != nil || addr.Network != "unix" {
		t.Errorf("got %v, %v", addr, err)
	}
	if err := cmd.Flags().Parse([]string{"--addr", "nowhere"}); err == nil {
		t.Error("a bad address was taken")
	}
}

func TestSize(t *testing.T) {
	tests := []struct {
		in   string
		want int64
		out  string
	}{
		{"0", 0, "0B"}, {"4096", 4096, "4KiB"}, {"64k", 65536, "64KiB"}, {"4MiB", 4 << 20, "4MiB"},
		{"4 mib", 4 << 20, "4MiB"}, {"1kB", 1000, "1000B"}, {"3GB", 3e9, "2.8GiB"}, {"1T", 1 << 40, "1TiB"},
		{"1025", 1025, "1.0KiB"}, {"9223372036854775807", 1<<63 - 1, "8388608.0TiB"}, {"2048TiB", 1 << 51, "2048TiB"},
	}
	for _, tt := range tests {
		got, err := parseSize(tt.in)
		if err != nil || got != tt.want || formatSize(got) != tt.out {
			t.Errorf("parseSize(%q) = %d, %v, formatted %s; want %d, %s", tt.in, got, err, formatSize(got), tt.want, tt.out)
		}
	}
	for _, in := range []string{"", "k", "-1", "+1", "1.5G", "4MiBs", "1 2", "0x10", "9223372036854775808", "8388608T", "1e3", "٣"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", in, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"4MiB", "64k", "1", "8388607T", "é", "1 kb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err == nil && n < 0 {
			t.Fatalf("parseSize(%q) = %d", s, n)
		}
	})
}
