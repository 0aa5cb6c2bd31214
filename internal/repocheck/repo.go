// Package repocheck holds the rules of this repository as tests.
//
// A rule is a function over a [Repo] that returns one [Violation] for each
// place that breaks it; the tests of this package run every rule over the
// repository, and run the rules themselves over small planted trees, so that
// a rule which can no longer fail is noticed. The rules:
//
//   - who may import whom, each arrow with its reason (imports.go);
//   - sizes of files and functions, package comments, no init functions, no
//     cgo, no vague package names, gofmt (source.go);
//   - every dependency has a written reason (deps.go);
//   - no paths of one machine, no programs, no pickle and no eval in Python (text.go).
package repocheck

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Repo is a source tree as the rules see it. Immutable after Load.
type Repo struct {
	Root     string
	Module   string              // module path, as go.mod has it
	Files    []string            // slash-separated paths below Root, sorted
	Packages map[string]*Package // by directory below Root, "." for the root
	Fset     *token.FileSet
}

// Package is one directory with Go files, whatever their build constraints.
type Package struct {
	Dir   string
	Files []*GoFile
}

// GoFile is one parsed Go file.
type GoFile struct {
	Path    string
	Source  []byte
	Syntax  *ast.File
	Imports []string
	Test    bool // a _test.go file
}

// Violation is one place that breaks one rule.
type Violation struct {
	Path string // file or package directory
	Line int    // 0 when the whole file or package is meant
	Rule string
	Why  string // what is wrong and what to do
}

func (v Violation) String() string {
	place := v.Path
	if v.Line > 0 {
		place += ":" + strconv.Itoa(v.Line)
	}
	return fmt.Sprintf("%s: %s: %s", place, v.Rule, v.Why)
}

// Load reads the tree below root: what git tracks or would track, or, where
// there is no usable git, every file outside the directories of tools.
func Load(root string) (*Repo, error) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("repocheck: load: %w", err)
	}
	r := &Repo{Root: root, Packages: map[string]*Package{}, Fset: token.NewFileSet()}
	for line := range strings.Lines(string(mod)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			r.Module = strings.TrimSpace(name)
			break
		}
	}
	if r.Module == "" {
		return nil, fmt.Errorf("repocheck: load: %s/go.mod names no module", root)
	}
	if r.Files, err = listFiles(root); err != nil {
		return nil, fmt.Errorf("repocheck: load: %w", err)
	}
	for _, name := range r.Files {
		if path.Ext(name) != ".go" || slices.Contains(strings.Split(name, "/"), "testdata") || nested(r.Files, name) {
			continue
		}
		if err := r.parse(name); err != nil {
			return nil, fmt.Errorf("repocheck: load: %w", err)
		}
	}
	return r, nil
}

// nested reports whether a file belongs to a module of its own below the root.
func nested(files []string, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := slices.BinarySearch(files, dir+"/go.mod"); ok {
			return true
		}
	}
	return false
}

// FindRoot returns the nearest directory at or above dir that has a go.mod.
func FindRoot(dir string) (string, error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("repocheck: find root: no go.mod at or above %s", dir)
		}
	}
}

// Read returns the content of a file of the tree.
func (r *Repo) Read(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(r.Root, filepath.FromSlash(name)))
}

// Dirs returns the directories of the packages, sorted.
func (r *Repo) Dirs() []string {
	var dirs []string
	for dir := range r.Packages {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return dirs
}

func (r *Repo) parse(name string) error {
	src, err := r.Read(name)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(r.Fset, name, src, parser.ParseComments)
	if err != nil {
		return err
	}
	f := &GoFile{Path: name, Source: src, Syntax: syntax, Test: strings.HasSuffix(name, "_test.go")}
	for _, spec := range syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		f.Imports = append(f.Imports, p)
	}
	dir := path.Dir(name)
	if r.Packages[dir] == nil {
		r.Packages[dir] = &Package{Dir: dir}
	}
	r.Packages[dir].Files = append(r.Packages[dir].Files, f)
	return nil
}

func (r *Repo) line(pos token.Pos) int { return r.Fset.Position(pos).Line }

// toolDirs are directories that tools fill and git ignores.
var toolDirs = []string{
	".git", ".cache", ".venv", "bin", "__pycache__", ".mypy_cache", ".pytest_cache",
	".ruff_cache", ".hypothesis", "node_modules",
}

func listFiles(root string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(root, ".git")); err == nil {
		cmd := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
		if out, err := cmd.Output(); err == nil {
			return existing(root, strings.Split(string(bytes.TrimRight(out, "\x00")), "\x00")), nil
		}
	}
	var files []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(toolDirs, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, p)
		files = append(files, filepath.ToSlash(rel))
		return err
	})
	slices.Sort(files)
	return files, err
}

// existing drops files that git still lists but the work tree has lost, and
// anything that is not a regular file.
func existing(root string, names []string) []string {
	names = slices.DeleteFunc(names, func(name string) bool {
		info, err := os.Lstat(filepath.Join(root, filepath.FromSlash(name)))
		return err != nil || !info.Mode().IsRegular()
	})
	slices.Sort(names)
	return slices.Compact(names)
}
