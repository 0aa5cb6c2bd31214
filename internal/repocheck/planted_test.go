package repocheck

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const plantedMod = "module ndferry\n\ngo 1.26.0\n\nrequire (\n\tgolang.org/x/sys v0.49.0\n\texample.org/stray v1.0.0 // indirect\n)\n"

// plant writes a tree of files and loads it.
func plant(t *testing.T, files map[string]string) *Repo {
	t.Helper()
	root := t.TempDir()
	files["go.mod"] = plantedMod
	if _, ok := files[DependenciesFile]; !ok {
		files[DependenciesFile] = "| module | why |\n|---|---|\n| `golang.org/x/sys` | system calls |\n"
	}
	for name, text := range files {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func all(r *Repo) []Violation {
	sizes, _ := CheckSizes(r)
	return slices.Concat(CheckImports(r, Arrows), CheckPackages(r), CheckFormat(r), CheckDependencies(r), CheckText(r), sizes)
}

func source(pkg string, imports ...string) string {
	var b strings.Builder
	b.WriteString("// Package " + pkg + " is planted.\npackage " + pkg + "\n")
	for _, imp := range imports {
		b.WriteString("\nimport _ \"" + imp + "\"\n")
	}
	return b.String()
}

// TestPlanted plants one violation at a time, and next to it what is allowed.
func TestPlanted(t *testing.T) {
	long := func(n int) string { return strings.Repeat("\t_ = 1\n", n) }
	tests := []struct {
		name  string
		files map[string]string
		want  string // part of the one violation; "" for none
	}{
		{"arrow down", map[string]string{"wire/a.go": source("wire", "ndferry/array"), "array/a.go": source("array")}, ""},
		{"arrow up", map[string]string{"array/a.go": source("array", "ndferry/wire"), "wire/a.go": source("wire")},
			"array may not import wire"},
		{"arrow up in a test", map[string]string{"array/a.go": source("array"), "array/a_test.go": source("array", "ndferry/wire"),
			"wire/a.go": source("wire")}, ""},
		{"arrow up behind a build constraint",
			map[string]string{"array/a.go": source("array"), "array/b.go": "//go:build plan9\n\n" + source("array", "ndferry/wire")},
			"array may not import wire"},
		{"neighbour", map[string]string{"evloop/a.go": source("evloop", "ndferry/fdpass")}, "evloop may not import fdpass"},
		{"back end to back end", map[string]string{"store/dir/a.go": source("dir", "ndferry/store/mem")},
			"store/dir may not import store/mem"},
		{"own wildcard", map[string]string{"store/dir/a.go": source("dir", "ndferry/store", "golang.org/x/sys/unix")}, ""},
		{"no arrow", map[string]string{"extra/a.go": source("extra")}, "no arrow"},
		{"foreign module", map[string]string{"fdpass/a.go": source("fdpass", "example.org/stray/x"),
			DependenciesFile: "| `golang.org/x/sys` | calls |\n| `example.org/stray` | planted |\n"},
			"fdpass may not import example.org/stray/x"},
		{"no reason", map[string]string{"array/a_test.go": source("array", "example.org/stray/x")}, "example.org/stray is imported but has no reason"},
		{"not required", map[string]string{"array/a_test.go": source("array", "example.org/other")}, "not required by go.mod"},
		{"stale row", map[string]string{DependenciesFile: "| `golang.org/x/sys` | calls |\n| `example.org/gone` | planted |\n"},
			"drop its row"},
		{"file at its limit", map[string]string{"array/a.go": source("array") + "\n" + strings.Repeat("// x\n", MaxFileLines-3)}, ""},
		{"long file", map[string]string{"array/a.go": source("array") + "\n" + strings.Repeat("// x\n", MaxFileLines-2)}, "file has 601 lines"},
		{"long Python file", map[string]string{"python/src/a.py": strings.Repeat("x = 1\n", MaxFileLines+1)}, "file has 601 lines"},
		{"function at its limit", map[string]string{"array/a.go": source("array") + "\nfunc f() {\n" + long(MaxFuncLines-2) + "}\n"}, ""},
		{"long function", map[string]string{"array/a.go": source("array") + "\nfunc f() {\n" + long(MaxFuncLines-1) + "}\n"},
			"function f has 101 lines"},
		{"no package comment", map[string]string{"array/a.go": "package array\n"}, "no package comment"},
		{"init", map[string]string{"array/a.go": source("array") + "\nfunc init() {}\n"}, "no init functions"},
		{"method named init", map[string]string{"array/a.go": source("array") + "\ntype t struct{}\n\nfunc (t) init() {}\n"}, ""},
		{"cgo", map[string]string{"array/a.go": source("array", "C")}, "without cgo"},
		{"vague name", map[string]string{"array/util/a.go": source("util")}, "name it after what it holds"},
		{"not formatted", map[string]string{"array/a.go": source("array") + "\nvar  x = 1\n"}, "gofmt"},
		{"machine path", map[string]string{"docs/a.md": "see /wo" + "rk/notes\n"}, "docs/a.md:1: machine path"},
		{"machine path in a binary file", map[string]string{"docs/a.bin": "\x00/wo" + "rk/notes\n"}, ""},
		{"program", map[string]string{"tool": "\x7fELF\x02\x01\x01\x00"}, "tool: text: is a program"},
		{"pickle", map[string]string{"python/src/ndferry/a.py": "import os\nimport pickle\n"}, "a.py:2: python: unpickling"},
		{"allow_pickle", map[string]string{"python/src/ndferry/a.py": "np.load(f, allow_pickle=True)\n"}, "unpickling"},
		{"no pickle", map[string]string{"python/src/ndferry/a.py": "np.load(f, allow_pickle=False)\nmodel.eval()\n"}, ""},
		{"pickle in a Python test", map[string]string{"python/tests/test_a.py": "import pickle\n"}, ""},
		{"eval", map[string]string{"python/src/ndferry/a.py": "x = eval(s)\n"}, "eval and exec"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := all(plant(t, tt.files))
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("violations where there are none: %v", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), tt.want)):
				t.Errorf("got %v, want one violation with %q", got, tt.want)
			}
		})
	}
}

// TestPlantedNever reaches a forbidden package through allowed ones.
func TestPlantedNever(t *testing.T) {
	r := plant(t, map[string]string{
		"internal/master/a.go":   source("master", "ndferry/internal/handover"),
		"internal/handover/a.go": source("handover", "ndferry/fdpass"),
		"fdpass/a.go":            source("fdpass", "ndferry/store"),
		"store/a.go":             source("store"),
	})
	var got []string
	for _, v := range CheckImports(r, Arrows) {
		got = append(got, v.String())
	}
	want := "internal/master -> internal/handover -> fdpass -> store"
	if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
		t.Errorf("got %q, want one with %q", got, want)
	}
}
