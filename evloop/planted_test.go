//go:build planted && linux

package evloop

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// planted are bugs of the textbook's servers and of other loops, and the
// tests that must notice them.
var planted = []struct{ name, file, old, bug, test string }{
	{"tail lost after a partial write", "out.go", "if n < size {", "if q.bytes -= max(0, size-n); false {", "Tutorial_partialWrite"},
	{"output lost at close on EAGAIN", "write.go", "c.state = stFlushing\n", "c.finish(nil); return\n", "Conformance_halfClose"},
	{"spin on EMFILE", "listen.go", "_ = ln.register(0)\n\tln.timer", "ln.timer", "AcceptRestsInAShortage"},
	{"death on EMFILE", "listen.go", "ln.timer = l.After(ln.pause, ln.resume)", "", "AcceptWithoutDescriptors"},
	{"descriptor reused in the batch", "write.go", "l.dead = append(l.dead, c)", "l.conns[c.fd] = nil; l.k.Close(int(c.fd))", "ClosedNumberNotReused"},
	{"urgent byte taken out of line", "listen.go", "set(unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)", "", "Tutorial_urgentByte"},
	{"error on the listener closes it", "listen.go", "case unix.EINTR, unix.ECONNABORTED,", "case unix.ECONNABORTED:\n_ = ln.Close()\nreturn\ncase unix.EINTR,", "Model"},
	{"unbounded queue for a deaf reader", "conn.go", "c.setPause(flPauseOut)", "", "Tutorial_deafReader"},
	{"readable and writable serves one", "loop.go", "case c.mayRead():", "case e.Ready&Write != 0:\ncase c.mayRead():", "Tutorial_oneEventServesBoth"},
	{"line split again at each read", "lines.go", "h.scanned = len(rest)", "h.scanned = 0", "Tutorial_lineNotScannedAgain"},
	{"no limit on a line", "lines.go", "if len(rest) > h.max() {", "if false {", "Tutorial_lineLimit"},
	{"empty lines unanswered", "lines.go", "if err := h.Line(c, rest[:n]); err != nil {", "if n == 1 { continue }\nif err := h.Line(c, rest[:n]); err != nil {", "Tutorial_linesOfBytes"},
	{"descriptor 1,024", "poller_select.go", "fd >= fdSetSize && runtime.GOOS == \"darwin\"", "fd >= fdSetSize && runtime.GOOS != \"\"", "Conformance_echo"},
	{"a panic ends the process", "loop.go", "if r := recover(); r != nil {\n\t\tl.stats.Panics++\n\t\tl.cfg.Log.Error(\"handler", "if r := any(nil); r != nil {\n\t\tl.stats.Panics++\n\t\tl.cfg.Log.Error(\"handler", "Tutorial_nothingHidden"},
	{"backlog of 5", "listen.go", "unix.Listen(fd, backlog())", "unix.Listen(fd, 5)", "Tutorial_backlog"},
	{"half of the clients open after shutdown", "loop.go", "c.finish(fmt.Errorf(\"evloop: %w\", ErrLoopStopped))", "if c.fd%2 == 0 { c.finish(nil) }", "Tutorial_shutdown"},
	{"durations from the wall clock", "stats.go", "Duration: time.Duration(end - s.openedAt)", "Duration: time.Since(l.base.Add(time.Duration(s.openedAt)))", "Tutorial_durations"},
	{"plain read on a Unix socket", "read.go", "if c.kind == kindUnix {", "if false {", "Files"},
	{"hang-up spins while paused", "loop.go", "c.flags |= flQuiet", "", "Conformance_hangUpWhilePaused"},
	{"queues never freed", "conn.go", "if c.out != nil && c.out.empty() {", "if false {", "Tutorial_sentMessage"},
	{"end of stream before what waited", "read.go", "if c.flags&flAgain != 0 {", "if false {", "Model"},
	{"used after close in the same event", "conn.go", "if c.state > stFlushing || c.state == stFlushing && c.jobs == 0 {", "if false {", "Tutorial_closedInReadPass"},
	{"registration per message", "conn.go", "if want := c.interest(); want != c.have {", "if want := c.interest(); true {", "NoRegistrationPerMessage"},
}

// TestPlanted plants each bug in a copy of its file and runs the test that
// must fail.
func TestPlanted(t *testing.T) {
	audit(t)
	dir, err := filepath.Abs(".")
	check(t, err)
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			src, err := os.ReadFile(p.file)
			check(t, err)
			if strings.Count(string(src), p.old) != 1 {
				t.Fatalf("%s has %q %d times", p.file, p.old, strings.Count(string(src), p.old))
			}
			tmp := t.TempDir()
			bad := filepath.Join(tmp, "bad.go")
			check(t, os.WriteFile(bad, []byte(strings.Replace(string(src), p.old, p.bug, 1)), 0o600))
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(dir, p.file): bad}})
			check(t, err)
			file := filepath.Join(tmp, "overlay.json")
			check(t, os.WriteFile(file, overlay, 0o600))
			out, err := exec.Command("go", "test", "-vet=off", "-short", "-overlay", file, "-run", "^Test"+p.test, "-timeout", "100s", ".").CombinedOutput()
			switch {
			case strings.Contains(string(out), "build failed"):
				t.Fatalf("the bug does not compile:\n%s", out)
			case err == nil:
				t.Fatalf("Test%s did not notice", p.test)
			}
		})
	}
}
