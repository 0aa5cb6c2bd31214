package repocheck

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"path"
	"slices"
	"strings"
)

// Limits of size, in lines. Above the maximum a rule fails; above the aim it
// is only reported.
const (
	MaxFileLines = 600
	AimFileLines = 500
	MaxFuncLines = 100
	AimFuncLines = 70
)

// vagueNames say nothing about what a package holds, so everything ends there.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "base", "misc"}

// CheckSizes fails source files and Go functions above the maximum and
// returns, apart, those above the aim.
func CheckSizes(r *Repo) (bad, aim []Violation) {
	judge := func(name string, line, lines, limit, target int, what string) {
		v := Violation{Path: name, Line: line, Rule: "size",
			Why: fmt.Sprintf("%s has %d lines: aim at %d, at most %d", what, lines, target, limit)}
		switch {
		case lines > limit:
			bad = append(bad, v)
		case lines > target:
			aim = append(aim, v)
		}
	}
	for _, name := range r.Files {
		if !slices.Contains([]string{".go", ".py", ".sh"}, path.Ext(name)) {
			continue
		}
		src, err := r.Read(name)
		if err != nil {
			bad = append(bad, Violation{Path: name, Rule: "size", Why: err.Error()})
			continue
		}
		judge(name, 0, bytes.Count(src, []byte("\n")), MaxFileLines, AimFileLines, "file")
	}
	r.eachFunc(func(f *GoFile, fn *ast.FuncDecl) {
		first, last := r.line(fn.Pos()), r.line(fn.End())
		judge(f.Path, first, last-first+1, MaxFuncLines, AimFuncLines, "function "+fn.Name.Name)
	})
	return bad, aim
}

// CheckPackages wants a package comment and a telling name for each package,
// and refuses init functions and cgo.
func CheckPackages(r *Repo) []Violation {
	var bad []Violation
	for _, dir := range r.Dirs() {
		pkg := r.Packages[dir]
		documented, product := false, false
		for _, f := range pkg.Files {
			if slices.Contains(vagueNames, strings.TrimSuffix(f.Syntax.Name.Name, "_test")) {
				bad = append(bad, Violation{Path: f.Path, Rule: "name",
					Why: fmt.Sprintf("package %s: name it after what it holds", f.Syntax.Name.Name)})
			}
			if f.Test {
				continue
			}
			product = true
			documented = documented || strings.TrimSpace(f.Syntax.Doc.Text()) != ""
			if slices.Contains(f.Imports, "C") {
				bad = append(bad, Violation{Path: f.Path, Rule: "cgo", Why: "the product is built without cgo"})
			}
		}
		if product && !documented {
			bad = append(bad, Violation{Path: dir, Rule: "doc", Why: "package has no package comment"})
		}
	}
	r.eachFunc(func(f *GoFile, fn *ast.FuncDecl) {
		if fn.Recv == nil && fn.Name.Name == "init" {
			bad = append(bad, Violation{Path: f.Path, Line: r.line(fn.Pos()), Rule: "init",
				Why: "no init functions: use a table or call it from where it is needed"})
		}
	})
	return bad
}

// CheckFormat wants every Go file as gofmt writes it.
func CheckFormat(r *Repo) []Violation {
	var bad []Violation
	for _, dir := range r.Dirs() {
		for _, f := range r.Packages[dir].Files {
			want, err := format.Source(f.Source)
			if err != nil {
				bad = append(bad, Violation{Path: f.Path, Rule: "gofmt", Why: err.Error()})
			} else if !bytes.Equal(want, f.Source) {
				bad = append(bad, Violation{Path: f.Path, Rule: "gofmt", Why: "run gofmt -w"})
			}
		}
	}
	return bad
}

func (r *Repo) eachFunc(visit func(*GoFile, *ast.FuncDecl)) {
	for _, dir := range r.Dirs() {
		for _, f := range r.Packages[dir].Files {
			for _, decl := range f.Syntax.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok {
					visit(f, fn)
				}
			}
		}
	}
}
