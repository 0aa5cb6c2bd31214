// Package planted_test proves that the tests bite: each file of testdata is a mistake of a few lines that a reviewer could miss, and the
// test of the gate, unchanged, that must turn red when it is made. Nothing is copied: go test -overlay puts the mistake in place.
package planted_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var plantCount = flag.Int("planted", 0, "how many mistakes TestPlanted makes; 0: only whether each can be made, -1: all")
var plantFirst = flag.Int("planted-first", 0, "the first of them")

// mistake is a file of testdata.
type mistake struct {
	name, why string
	file      string // of the repository
	pkg       string // of the test
	run       string // the test, as -run takes it
	gate      bool   // it needs the build tag
	was, is   string
}

const root = "../.."

func mistakes(t *testing.T) (list []mistake) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata: %q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, _ := strings.Cut(string(text), "-- was --\n")
		m := mistake{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
		m.was, m.is, _ = strings.Cut(rest, "-- is --\n")
		for line := range strings.Lines(head) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "why":
				m.why = value
			case "file":
				m.file = value
			case "test":
				m.pkg, m.run, _ = strings.Cut(value, " ")
				m.pkg, m.gate = strings.CutPrefix(m.pkg, "gate:")
			}
		}
		m.pkg = strings.TrimPrefix(m.pkg, "gate:")
		if m.why == "" || m.file == "" || m.run == "" || m.was == "" {
			t.Fatalf("%s: a part is missing: %+v", file, m)
		}
		list = append(list, m)
	}
	return list
}

// apply returns the file with the mistake in it.
func (m mistake) apply(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.was); n != 1 {
		t.Fatalf("%s: what it changes is %d times in %s; write it anew", m.name, n, m.file)
	}
	return strings.Replace(string(text), m.was, m.is, 1)
}

// TestPlantable checks that each mistake can still be made, is small, and names a test that there is.
func TestPlantable(t *testing.T) {
	list := mistakes(t)
	if len(list) < 20 {
		t.Errorf("%d mistakes, 20 are wanted", len(list))
	}
	for _, m := range list {
		text := m.apply(t)
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, 0); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if n := changed(m.was, m.is); n == 0 || n > 10 { // five lines, gone and come
			t.Errorf("%s changes %d lines", m.name, n)
		}
		if strings.Contains(m.is, "panic") {
			t.Errorf("%s panics", m.name)
		}
		name := regexp.MustCompile(`\^(\w+)\$`).FindStringSubmatch(m.run)
		if name == nil || !declared(t, m.pkg, name[1]) {
			t.Errorf("%s: no test %s in %s", m.name, m.run, m.pkg)
		}
	}
}

// changed counts lines that one text has and the other has not, or has elsewhere.
func changed(was, is string) int {
	a, b := strings.Split(was, "\n"), strings.Split(is, "\n")
	common := make([]int, len(b)+1) // longest common subsequence, one row
	for _, x := range a {
		last := 0
		for j, y := range b {
			here := common[j+1]
			if x == y {
				common[j+1] = last + 1
			} else {
				common[j+1] = max(here, common[j])
			}
			last = here
		}
	}
	return len(a) + len(b) - 2*common[len(b)]
}

func declared(t *testing.T, pkg, test string) bool {
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+test+"(t *testing.T)") {
			return true
		}
	}
	return false
}

// TestPlanted makes mistakes one at a time: the test of each must fail, by its own judgement and not by a panic.
func TestPlanted(t *testing.T) {
	list := mistakes(t)
	count := *plantCount
	if count < 0 {
		count = len(list)
	}
	red, begin := 0, time.Now()
	for i := range count {
		m := list[(*plantFirst+i)%len(list)]
		start := time.Now()
		by, err := m.plant(t)
		if err != nil {
			t.Errorf("planted %s: %v: %s", m.name, err, m.why)
			continue
		}
		red++
		t.Logf("planted %s: tried=1 reached=1 injected=1 failed=0 seed=0 (red: %s in %s, %v: %s)", m.name, by, m.pkg, time.Since(start).Round(100*time.Millisecond), m.why)
	}
	if count > 0 && !t.Failed() {
		t.Logf("planted: tried=%d reached=%d injected=%d failed=0 seed=%d (%v)", count, count, red, *plantFirst, time.Since(begin).Round(time.Second))
	}
}

// plant makes the mistake and returns what failed.
func (m mistake) plant(t *testing.T) (by string, err error) {
	dir := t.TempDir()
	file, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	with, overlay := filepath.Join(dir, "with.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {file: with}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(with, []byte(m.apply(t)), 0o666), os.WriteFile(overlay, text, 0o666)); err != nil {
		return "", err
	}
	args := []string{"test", "-overlay", overlay, "-count", "1", "-timeout", "5m", "-run", m.run}
	if m.gate {
		args = append(args, "-tags", "gate")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, m.pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, failed := cmd.CombinedOutput()
	found := regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`).FindAllSubmatch(out, -1)
	switch {
	case failed == nil:
		return "", fmt.Errorf("%s stays green", m.run)
	case strings.Contains(string(out), "panic:") || len(found) == 0:
		return "", fmt.Errorf("%s did not judge:\n%s", m.run, out)
	}
	for _, f := range found { // the innermost says most
		if len(f[1]) > len(by) {
			by = string(f[1])
		}
	}
	return by, nil
}
