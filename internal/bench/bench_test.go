package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"
)

const helperEnv = "NDFERRY_BENCH_HELPER"

// TestMain lets the test binary stand in for the measured processes.
func TestMain(m *testing.M) {
	if role := os.Getenv(helperEnv); role != "" {
		helper(role, os.Args[1:])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// proc is the test binary in a role of helper.
func proc(role string, args ...string) Proc {
	return Proc{Path: os.Args[0], Args: args, Env: []string{helperEnv + "=" + role, "GORACE=atexit_sleep_ms=0"}}
}

func helper(role string, args []string) {
	switch role {
	case "server": // listens, starts a child of its own, and works 50 ms for each connection
		child := exec.Command("/bin/sleep", "600")
		l, err := net.Listen("unix", args[0])
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("starting")
		fmt.Printf("ready pid=%d child=%d\n", os.Getpid(), child.Process.Pid)
		_ = os.WriteFile(args[0]+".pids", fmt.Appendf(nil, "%d %d", os.Getpid(), child.Process.Pid), 0o600)
		for {
			c, err := l.Accept()
			if err != nil {
				os.Exit(1)
			}
			spin(50 * time.Millisecond)
			c.Close()
		}
	case "client": // waits for the server to close, then tells a figure
		c, err := net.Dial("unix", args[0])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_, _ = c.Read(make([]byte, 1))
		fmt.Println("42")
	case "spin": // burns CPU and touches 64 MiB
		b := make([]byte, 64<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		spin(100 * time.Millisecond)
	case "log": // appends its argument to a file
		f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(args[1])
		}
		if err != nil {
			os.Exit(1)
		}
	case "hang":
		time.Sleep(time.Minute)
	case "fail":
		fmt.Fprintln(os.Stderr, "no luck")
		os.Exit(3)
	}
}

// spin takes so much time of a processor, however long others keep it waiting.
func spin(d time.Duration) {
	for start := worked(); worked()-start < d; {
	}
}

func worked() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestRunServers(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	server := proc("server", sock)
	server.ReadyLine = `^ready pid=\d+`
	sides := []Side{{
		Name: "unix", Servers: []Proc{server}, Client: proc("client", sock), Bytes: 1000,
		Values: func(out []byte) (map[string]float64, error) {
			v, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			return map[string]float64{"answer": v}, err
		},
	}}
	rounds, err := Run(t.Context(), sides, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if len(rounds) != MinRounds {
		t.Fatalf("%d rounds", len(rounds))
	}
	s := Summarize(rounds)[0]
	// 50 ms of a spinning server, in ticks of 10 ms, on a machine with others.
	if s.Seconds.Min < 0.05 || s.ServerCPU.Max < 0.03 || s.ServerRSS.Min < 1<<20 || s.MBPerS == nil || s.Values["answer"].Median != 42 {
		t.Errorf("summary %+v", s)
	}
	text, err := os.ReadFile(sock + ".pids")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		waitGone(t, pid)
	}
}

// waitGone fails when a process is still running some time after its kill. An
// orphan may stay a zombie where nobody reaps it.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}

func TestRunProbe(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	server := proc("server", sock)
	server.ReadyProbe = func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "unix", sock)
		if err == nil {
			c.Close()
		}
		return err
	}
	rounds, err := Run(t.Context(), []Side{{Name: "a", Servers: []Proc{server}, Client: proc("client", sock)}}, Config{Warmup: -1})
	if err != nil || len(rounds) != MinRounds {
		t.Fatalf("%d rounds, %v", len(rounds), err)
	}
}

func TestRunOrder(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	sides := []Side{{Name: "a", Client: proc("log", log, "A")}, {Name: "b", Client: proc("log", log, "B")}}
	if _, err := Run(t.Context(), sides, Config{Rounds: 5, Warmup: 2}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(log)
	if want := "AABB" + "ABABABABAB"; err != nil || string(got) != want {
		t.Errorf("order %s, %v; want %s", got, err, want)
	}
}

func TestRunUsage(t *testing.T) {
	sides := []Side{{Name: "spin", Client: proc("spin")}, {Name: "true", Client: Proc{Path: "/bin/true"}}}
	rounds, err := Run(t.Context(), sides, Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := Summarize(rounds)
	if s[0].ClientCPU.Median < 0.05 || s[0].ClientRSS.Median < 64<<20 {
		t.Errorf("spin: %+v", s[0])
	}
	if s[1].ClientCPU.Median > s[0].ClientCPU.Median || s[1].ClientRSS.Median > 64<<20 || s[1].MBPerS != nil {
		t.Errorf("true: %+v", s[1])
	}
}

func TestRunFailures(t *testing.T) {
	notReady := proc("hang")
	notReady.ReadyLine = "never"
	dies := proc("fail")
	dies.ReadyLine = "never"
	badPattern := proc("hang")
	badPattern.ReadyLine = "("
	absent := Proc{Path: "/nonexistent/program", ReadyLine: "x"}
	truth := Proc{Path: "/bin/true"}
	quick := Config{ReadyTimeout: 200 * time.Millisecond, RoundTimeout: 200 * time.Millisecond}
	tests := []struct {
		name   string
		sides  []Side
		config Config
		want   string
	}{
		{"few rounds", []Side{{Name: "a", Client: truth}}, Config{Rounds: 4}, "at least 5"},
		{"no sides", nil, Config{}, "no sides"},
		{"same name", []Side{{Name: "a", Client: truth}, {Name: "a", Client: truth}}, Config{}, "name of its own"},
		{"no readiness", []Side{{Name: "a", Servers: []Proc{truth}, Client: truth}}, Config{}, "set ReadyLine or ReadyProbe"},
		{"not ready", []Side{{Name: "a", Servers: []Proc{notReady}, Client: truth}}, quick, "was not ready"},
		{"server dies", []Side{{Name: "a", Servers: []Proc{dies}, Client: truth}}, Config{}, "before it was ready: exit status 3"},
		{"bad pattern", []Side{{Name: "a", Servers: []Proc{badPattern}, Client: truth}}, Config{}, "ready line"},
		{"no such server", []Side{{Name: "a", Servers: []Proc{absent}, Client: truth}}, Config{}, "no such file"},
		{"client fails", []Side{{Name: "a", Client: proc("fail")}}, Config{}, "exit status 3: no luck"},
		{"client hangs", []Side{{Name: "a", Client: proc("hang")}}, quick, "did not end"},
		{"bad figures", []Side{{Name: "a", Client: truth,
			Values: func([]byte) (map[string]float64, error) { return nil, errors.New("no figures") }}}, Config{}, "no figures"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rounds, err := Run(t.Context(), tt.sides, tt.config)
			if err == nil || !strings.Contains(err.Error(), tt.want) || rounds != nil {
				t.Errorf("got %d rounds, %v; want an error with %q", len(rounds), err, tt.want)
			}
		})
	}
}

func TestRunCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := Run(ctx, []Side{{Name: "a", Client: proc("hang")}}, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSpread(t *testing.T) {
	tests := []struct {
		values []float64
		want   Spread
	}{
		{[]float64{3}, Spread{3, 3, 3, 0}},
		{[]float64{4, 1}, Spread{2.5, 1, 4, 1.5}},
		{[]float64{9, 1, 2, 3, 2}, Spread{2, 1, 9, 1}},
	}
	for _, tt := range tests {
		in := slices.Clone(tt.values)
		if got := NewSpread(tt.values); got != tt.want || !slices.Equal(in, tt.values) {
			t.Errorf("NewSpread(%v) = %+v, want %+v", in, got, tt.want)
		}
	}
}

func TestReport(t *testing.T) {
	rounds := []Round{
		{Side: "a", Round: 1, Seconds: 2, Bytes: 4e6, ClientRSS: 1 << 20, Values: map[string]float64{"x": 1}},
		{Side: "b", Round: 1, Seconds: 1},
		{Side: "a", Round: 2, Seconds: 4, Bytes: 4e6, ClientRSS: 3 << 20, Values: map[string]float64{"x": 2}},
	}
	var lines strings.Builder
	if err := WriteJSON(&lines, "s", map[string]string{"rounds": "5"}, rounds); err != nil {
		t.Fatal(err)
	}
	var events []string
	for line := range strings.Lines(lines.String()) {
		var r record
		if err := json.Unmarshal([]byte(line), &r, json.RejectUnknownMembers(true)); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		events = append(events, r.Event)
	}
	if got := strings.Join(events, " "); got != "run round round round summary summary" {
		t.Errorf("events %s", got)
	}
	var table strings.Builder
	if err := WriteTable(&table, Summarize(rounds)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a       2   3.0000  2.0000  4.0000  1.0000     2", "a x: 1.5"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, &table)
		}
	}
}
