package cli

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// runProgress moves 10 steps of one MiB, a step each so often, and returns
// nothing but what the app wrote.
func runProgress(a *app, step time.Duration) {
	now := time.Unix(0, 0)
	a.now = func() time.Time { return now }
	p := a.newProgress("put x", 10<<20)
	for range 10 {
		now = now.Add(step)
		p.add(1 << 20)
	}
	p.finish()
	p.finish()
	p.add(1 << 20)
}

func TestProgressLog(t *testing.T) {
	tests := []struct {
		mode  string
		step  time.Duration
		lines int
	}{
		{progressAuto, 4 * time.Second, 3},
		{progressLog, 10 * time.Second, 10},
		{progressAuto, 100 * time.Millisecond, 0},
		{progressNone, time.Minute, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.mode, tt.step), func(t *testing.T) {
			a, stdout, stderr := newTestApp(nil)
			a.progress, a.log = tt.mode, slog.New(slog.NewTextHandler(stderr, nil))
			runProgress(a, tt.step)
			if got := strings.Count(stderr.String(), "\n"); got != tt.lines || stdout.Len() > 0 {
				t.Errorf("%d lines, want %d; stderr %q, stdout %q", got, tt.lines, stderr, stdout)
			}
			if tt.lines > 0 && !strings.Contains(stderr.String(), `msg="put x" done=3MiB total=10MiB`) && tt.step == 4*time.Second {
				t.Errorf("stderr %q", stderr)
			}
			if strings.ContainsAny(stderr.String(), "\r\x1b") {
				t.Errorf("terminal codes in %q", stderr)
			}
		})
	}
}

func TestProgressBar(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		json bool
		step time.Duration
		want func(out string) bool
	}{
		{"slow", nil, false, time.Second, func(out string) bool { return strings.Contains(out, "put x") && strings.Contains(out, "\r") }},
		{"quick", nil, false, 10 * time.Millisecond, func(out string) bool { return out == "" }},
		{"json", nil, true, time.Second, func(out string) bool { return !strings.Contains(out, "\r\x1b") && !strings.Contains(out, "%") }},
		{"no color", map[string]string{"NO_COLOR": "1"}, false, time.Second, func(out string) bool { return strings.Contains(out, "put x") && !strings.Contains(out, "\x1b[3") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tty, screen := openPTY(t)
			a, stdout, _ := newTestApp(tt.env)
			a.stderr, a.progress, a.json = tty, progressAuto, tt.json
			a.log = slog.New(slog.NewTextHandler(io.Discard, nil))
			runProgress(a, tt.step)
			fmt.Fprint(tty, "end of screen")
			if got := screen("end of screen"); !tt.want(got) || stdout.Len() > 0 {
				t.Errorf("screen %q, stdout %q", got, stdout)
			}
		})
	}
}
