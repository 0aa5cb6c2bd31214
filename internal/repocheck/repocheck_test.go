package repocheck

import (
	"os"
	"slices"
	"testing"
)

func load(t *testing.T) *Repo {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root, err := FindRoot(wd)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Packages) == 0 || !slices.Contains(r.Files, "go.mod") {
		t.Fatalf("loaded %d packages and %d files from %s: not this repository", len(r.Packages), len(r.Files), root)
	}
	return r
}

func report(t *testing.T, bad []Violation) {
	t.Helper()
	for _, v := range bad {
		t.Error(v)
	}
}

func TestImports(t *testing.T)      { report(t, CheckImports(load(t), Arrows)) }
func TestPackages(t *testing.T)     { report(t, CheckPackages(load(t))) }
func TestFormat(t *testing.T)       { report(t, CheckFormat(load(t))) }
func TestDependencies(t *testing.T) { report(t, CheckDependencies(load(t))) }
func TestText(t *testing.T)         { report(t, CheckText(load(t))) }

func TestSizes(t *testing.T) {
	bad, aim := CheckSizes(load(t))
	report(t, bad)
	for _, v := range aim {
		t.Log(v)
	}
}

// TestArrows holds the table itself to its form.
func TestArrows(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Arrows {
		if a.Why == "" {
			t.Errorf("arrow of %s has no reason", a.From)
		}
		if seen[a.From] {
			t.Errorf("two arrows of %s", a.From)
		}
		seen[a.From] = true
		for _, to := range a.To {
			if _, ok := arrowOf(Arrows, to); !ok {
				t.Errorf("%s points at %s, which has no arrow", a.From, to)
			}
			if matchAny(a.Never, to) {
				t.Errorf("%s both may and never may import %s", a.From, to)
			}
		}
	}
	for _, dir := range []string{
		"array", "fdpass", "evloop", "wire", "wire/codec", "store", "store/dir", "store/mem", "store/object",
		"store/open", "store/storetest", "client", "internal/session", "internal/worker", "internal/master",
		"internal/handover", "internal/bench", "internal/cli", "internal/web", "cmd/ndferry",
	} {
		if _, ok := arrowOf(Arrows, dir); !ok {
			t.Errorf("the design's package %s has no arrow", dir)
		}
	}
}
