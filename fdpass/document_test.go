//go:build linux

package fdpass

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/descriptors.md names a test for every pitfall: each of them exists.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/descriptors.md")
	if os.IsNotExist(err) {
		t.Fatalf("the tests run outside of the repository: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	named := regexp.MustCompile(`(?:([a-z/]+): )?((?:Test|Fuzz)[A-Za-z0-9_]+)`)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !regexp.MustCompile(`^ \d+ $`).MatchString(cells[1]) {
			continue
		}
		rows++
		names := named.FindAllStringSubmatch(cells[4], -1)
		if len(names) == 0 && !strings.HasPrefix(cells[3], " not here") {
			t.Errorf("row%sis held by no test", cells[1])
		}
		for _, n := range names {
			dir := "."
			if n[1] != "" {
				dir = filepath.Join("..", n[1])
			}
			if !hasTest(t, dir, n[2]) {
				t.Errorf("row%snames %s, which is not in %s", cells[1], n[2], dir)
			}
		}
	}
	if rows != 36 {
		t.Errorf("%d rows, want 36", rows)
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(dir + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
