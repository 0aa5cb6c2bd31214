package cli

import (
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Ways to show progress.
const (
	progressAuto = "auto" // a bar on a terminal without --json, log lines elsewhere
	progressBar  = "bar"
	progressLog  = "log"
	progressNone = "none"
)

// When progress shows: work that is over sooner shows none.
const (
	barDelay    = 500 * time.Millisecond
	logInterval = 10 * time.Second
)

func checkProgressMode(mode string) error {
	modes := []string{progressAuto, progressBar, progressLog, progressNone}
	if !slices.Contains(modes, mode) {
		return usageErrorf("--progress %q: want %s", mode, strings.Join(modes, ", "))
	}
	return nil
}

// progress shows how many bytes of one piece of work are done, on standard
// error only. Safe for several goroutines.
type progress struct {
	verb  string // immutable after newProgress, as are the next five
	total int64  // -1 when unknown
	bar   bool
	log   *slog.Logger // nil for no lines
	out   io.Writer
	color bool
	now   func() time.Time

	mu     sync.Mutex
	done   int64                    // guarded by mu
	start  time.Time                // guarded by mu
	logged time.Time                // guarded by mu; the last line, or the start
	shown  *progressbar.ProgressBar // guarded by mu; nil until barDelay has passed
}

// newProgress begins to show work on total bytes, -1 when unknown. The verb
// is what the user sees, such as "put w/layer0". The caller calls finish.
func (a *app) newProgress(verb string, total int64) *progress {
	mode := a.progress
	if mode == progressAuto {
		mode = progressLog
		if terminal(a.stderr) != nil && !a.json {
			mode = progressBar
		}
	}
	p := &progress{verb: verb, total: total, bar: mode == progressBar, out: a.stderr, color: a.color(), now: a.now}
	if mode == progressLog {
		p.log = a.log
	}
	p.start = a.now()
	p.logged = p.start
	return p
}

// add counts n more bytes and shows them when it is time.
func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	now := p.now()
	switch {
	case p.shown != nil:
		p.shown.Set64(p.done)
	case p.bar && now.Sub(p.start) >= barDelay:
		p.shown = p.newBar()
		p.shown.Set64(p.done)
	case p.log != nil && now.Sub(p.logged) >= logInterval:
		p.logged = now
		p.log.Info(p.verb, "done", formatSize(p.done), "total", p.totalText(), "rate", p.rate(now))
	}
}

// finish takes the bar away. Calling it again does nothing.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown != nil {
		p.shown.Exit()
		p.shown.Clear()
		p.shown = nil
	}
	p.bar, p.log = false, nil
}

func (p *progress) newBar() *progressbar.ProgressBar {
	return progressbar.NewOptions64(p.total,
		progressbar.OptionSetWriter(p.out),
		progressbar.OptionSetDescription(p.verb),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionEnableColorCodes(p.color),
		progressbar.OptionSetElapsedTime(true),
	)
}

func (p *progress) totalText() string {
	if p.total < 0 {
		return "unknown"
	}
	return formatSize(p.total)
}

func (p *progress) rate(now time.Time) string {
	return formatSize(int64(float64(p.done)/now.Sub(p.start).Seconds())) + "/s"
}
