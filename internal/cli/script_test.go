package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ndferry/array"
	"ndferry/internal/control"
)

// The scripts of testdata/script are the documentation of the command line by
// example. Besides testscript's own commands they have:
//
//	exitcode N program args...        fails unless the program exits with N
//	npy FILE DTYPE SHAPE [C|F]        writes a .npy of counting bytes; SHAPE is 3x4, or () for 0-d
//	bytes FILE 'text'                 writes bytes, with Go's escapes
//	truncate FILE N                   cuts a file, or makes it longer
//	flip FILE OFFSET                  turns over one bit
//	tmpfs DIR SIZE                    mounts a small file system
//	sigterm                           sends SIGTERM to the first background program
//	waitfor FILE                      waits until a file exists that FILE, a pattern, matches
//	freeport VAR                      sets VAR to a loopback address and a TCP port that is free now
//	ismode FILE MODE                  fails unless FILE has these permissions
//	worker N SIGNAL                   sends KILL, STOP, CONT or TERM to a worker of the server whose control socket is the default one
//	workers STATE...                  waits until the workers are in these states, with no connection
//
// and these programs:
//
//	ndferry                           the real command line
//	asnobody ARGS...                  ndferry as a user without rights
//	slowput FILE N ARGS...            ndferry with FILE on standard input, which after N bytes makes the file "waiting" and
//	                                  waits for the file "go"
//	fakeserver KIND ADDR              what is not an ndferry server: http, silent or closing
//	raw ADDR 'text'                   sends bytes and writes what comes back, quoted
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"exitcode": cmdExitCode,
	"npy":      scriptCommand("npy FILE DTYPE SHAPE [C|F]", 3, 4, writeNPY),
	"bytes":    scriptCommand("bytes FILE text", 2, 2, writeBytes),
	"truncate": scriptCommand("truncate FILE N", 2, 2, truncateFile),
	"flip":     scriptCommand("flip FILE OFFSET", 2, 2, flipBit),
	"tmpfs":    scriptCommand("tmpfs DIR SIZE", 2, 2, mountTmpfs),
	"sigterm":  scriptCommand("sigterm", 0, 0, terminateFirst),
	"waitfor":  scriptCommand("waitfor FILE", 1, 1, waitForFile),
	"freeport": scriptCommand("freeport VAR", 1, 1, findPort),
	"ismode":   scriptCommand("ismode FILE MODE", 2, 2, checkMode),
	"worker":   scriptCommand("worker N SIGNAL", 2, 2, signalWorker),
	"workers":  scriptCommand("workers STATE...", 1, 9, awaitWorkers),
}

var scriptPrograms = map[string]func(){
	"ndferry":     func() { plantStep(); os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv)) },
	"waitsignals": waitSignals,
	"asnobody":    asNobody,
	"slowput":     slowPut,
	"fakeserver":  func() { exitWith(fakeServer(os.Args[1], os.Args[2])) },
	"raw":         func() { exitWith(sendRaw(os.Args[1], os.Args[2])) },
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			// Under -race a process waits a second before it exits.
			e.Setenv("GORACE", "atexit_sleep_ms=20")
			// The user of asnobody may pass through, as through other people's directories.
			for _, dir := range []string{e.WorkDir, filepath.Dir(e.WorkDir)} {
				if err := os.Chmod(dir, 0o711); err != nil {
					return err
				}
			}
			// Every script has a socket of its own.
			e.Setenv("SOCK", "unix://"+filepath.Join(e.WorkDir, "sock"))
			e.Setenv("NDFERRY_ADDR", e.Getenv("SOCK"))
			e.Setenv("XDG_RUNTIME_DIR", e.WorkDir) // where the control socket is
			return nil
		},
		Cmds: scriptCommands,
	})
}

// TestExitCodesHaveScripts holds every exit code to a script that shows it.
func TestExitCodesHaveScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, line := range exitMeanings {
		shown := regexp.MustCompile(fmt.Sprintf(`(?m)^exitcode %d `, line.code)).MatchString(all.String())
		if line.code != ExitOK && !shown {
			t.Errorf("no script shows exit code %d, %s", line.code, line.meaning)
		}
	}
}

// cmdExitCode is the script command "exitcode N program args...": it runs the
// program and fails unless it exits with exactly N.
func cmdExitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exitcode %q: want a number", args[0])
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("exitcode: %v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s exited %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// scriptCommand makes a script command of a function that may fail.
func scriptCommand(usage string, least, most int, f func(*testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least || len(args) > most {
			ts.Fatalf("usage: %s", usage)
		}
		ts.Check(f(ts, args))
	}
}

func writeNPY(ts *testscript.TestScript, args []string) error {
	dtype, err := array.ParseDType(args[1])
	if err != nil {
		return err
	}
	shape := array.Shape{}
	for part := range strings.SplitSeq(strings.Trim(args[2], "()"), "x") {
		if part == "" {
			continue
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			return err
		}
		shape = append(shape, n)
	}
	size, err := shape.Bytes(dtype.ItemSize())
	if err != nil {
		return err
	}
	file := array.AppendNPYHeader(nil, dtype, shape, len(args) == 4 && args[3] == "F")
	for i := range size {
		file = append(file, byte(i*31>>3))
	}
	return os.WriteFile(ts.MkAbs(args[0]), file, 0o666)
}

func writeBytes(ts *testscript.TestScript, args []string) error {
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	if err != nil {
		return fmt.Errorf("%q: %w", args[1], err)
	}
	return os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o666)
}

func truncateFile(ts *testscript.TestScript, args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	return os.Truncate(ts.MkAbs(args[0]), n)
}

func flipBit(ts *testscript.TestScript, args []string) error {
	at, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	return err
}

func terminateFirst(ts *testscript.TestScript, _ []string) error {
	background := ts.BackgroundCmds()
	if len(background) == 0 {
		return errors.New("nothing runs in the background")
	}
	return background[0].Process.Signal(syscall.SIGTERM)
}

func waitForFile(ts *testscript.TestScript, args []string) error {
	path := ts.MkAbs(args[0])
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if found, err := filepath.Glob(path); err != nil || found != nil {
			return err
		}
	}
	return fmt.Errorf("%s did not appear", args[0])
}

func findPort(ts *testscript.TestScript, args []string) error {
	host := "127.0.0.1"
	if runtime.GOOS == "linux" { // one that no other process listens at meanwhile
		host = fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()>>16&0x7f, os.Getpid()>>8&0xff, max(1, os.Getpid()&0xff))
	}
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		return err
	}
	ts.Setenv(args[0], ln.Addr().String())
	return ln.Close()
}

func checkMode(ts *testscript.TestScript, args []string) error {
	want, err := strconv.ParseUint(args[1], 8, 32)
	if err != nil {
		return err
	}
	info, err := os.Lstat(ts.MkAbs(args[0]))
	if err == nil && info.Mode().Perm() != os.FileMode(want) {
		err = fmt.Errorf("%s has mode %04o", args[0], info.Mode().Perm())
	}
	return err
}

// askStatus asks the script's server how it does.
func askStatus(ts *testscript.TestScript) (s serverStatus, err error) {
	path := control.DefaultPath(func(name string) (string, bool) { return ts.Getenv(name), true })
	return s, control.Ask(context.Background(), path, "status", &s)
}

func signalWorker(ts *testscript.TestScript, args []string) error {
	s, err := askStatus(ts)
	if err != nil {
		return err
	}
	signals := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "TERM": syscall.SIGTERM}
	for _, w := range s.Workers {
		if strconv.Itoa(w.Worker) != args[0] || w.PID == 0 || signals[args[1]] == 0 {
			continue
		}
		if args[1] == "STOP" {
			return stopProcess(w.PID)
		}
		if err := syscall.Kill(w.PID, signals[args[1]]); err != nil || args[1] != "KILL" {
			return err
		}
		for n := s; err == nil && n.Workers[w.Worker-1].PID == w.PID; { // until the server knows
			n, err = askStatus(ts)
		}
		return err
	}
	return fmt.Errorf("no worker %s, or no signal %s: %+v", args[0], args[1], s.Workers)
}

func awaitWorkers(ts *testscript.TestScript, args []string) error {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		s, err := askStatus(ts)
		if err != nil {
			return err
		}
		var states []string
		for _, w := range s.Workers {
			states = append(states, w.State)
		}
		if s.Connections == 0 && slices.Equal(states, args) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the workers are %q, with %d connections", states, s.Connections)
		}
	}
}

// asNobody is the program "asnobody". The tests may run as root, whom no
// permission stops: it gives that up.
func asNobody() {
	if os.Geteuid() == 0 {
		const nobody = 65533 // nobody's number; 65534 also stands for unknown users
		exitWith(syscall.Setgroups(nil))
		exitWith(syscall.Setgid(nobody))
		exitWith(syscall.Setuid(nobody))
	}
	os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

// slowPut is the program "slowput".
func slowPut() {
	n, err := strconv.Atoi(os.Args[2])
	exitWith(err)
	data, err := os.ReadFile(os.Args[1])
	exitWith(err)
	stdin := io.MultiReader(bytes.NewReader(data[:n]), gate{}, bytes.NewReader(data[n:]))
	os.Exit(Main(os.Args[3:], stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

// gate ends when there is a file "go".
type gate struct{}

func (gate) Read([]byte) (int, error) {
	exitWith(os.WriteFile("waiting", nil, 0o666))
	for {
		if _, err := os.Stat("go"); err == nil {
			return 0, io.EOF
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// fakeServer is the program "fakeserver": it serves until it is killed.
func fakeServer(kind, addr string) error {
	path := strings.TrimPrefix(addr, "unix://")
	ln, err := net.Listen("unix", path+".new")
	if err == nil {
		err = os.Rename(path+".new", path) // it listens from when it is there on
	}
	if err != nil {
		return err
	}
	if kind == "http" {
		return http.Serve(ln, http.NotFoundHandler())
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		if kind == "closing" {
			c.Close()
		}
	}
}

// sendRaw is the program "raw".
func sendRaw(addr, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", strings.TrimPrefix(addr, "unix://"))
	for errors.Is(err, syscall.ECONNREFUSED) && ctx.Err() == nil { // between bind and listen
		time.Sleep(5 * time.Millisecond)
		c, err = d.DialContext(ctx, "unix", strings.TrimPrefix(addr, "unix://"))
	}
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	bytes, err := strconv.Unquote(`"` + text + `"`)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, bytes); err != nil {
		return err
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	fmt.Printf("%q\n", answer)
	return err
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", err)
		os.Exit(125)
	}
}
