package repocheck

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// DependenciesFile holds one table row for each module of others that we
// import: | `module` | why |.
const DependenciesFile = "docs/decisions/dependencies.md"

var (
	dependencyRow = regexp.MustCompile("^\\| *`([^` ]+)` *\\|(.*)\\|\\s*$")
	requireLine   = regexp.MustCompile(`^\s*(?:require\s+)?([^\s()/]+\.[^\s()/]+/\S+)\s+(v\S+)`)
)

// CheckDependencies wants a reason in DependenciesFile for every required
// module that some file of the tree imports, tests included, and no row for a
// module that go.mod does not require.
func CheckDependencies(r *Repo) []Violation {
	required, err := r.required()
	if err != nil {
		return []Violation{{Path: "go.mod", Rule: "dependency", Why: err.Error()}}
	}
	text, err := r.Read(DependenciesFile)
	if err != nil {
		return []Violation{{Path: DependenciesFile, Rule: "dependency", Why: err.Error()}}
	}
	var bad []Violation
	reasons := map[string]string{}
	for line := range strings.Lines(string(text)) {
		m := dependencyRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		reasons[m[1]] = strings.Trim(m[2], " |")
		if !slices.Contains(required, m[1]) {
			bad = append(bad, Violation{Path: DependenciesFile, Rule: "dependency",
				Why: fmt.Sprintf("%s is not required by go.mod: drop its row", m[1])})
		}
	}
	reported := map[string]bool{}
	for _, dir := range r.Dirs() {
		for _, f := range r.Packages[dir].Files {
			for _, imp := range f.Imports {
				if _, ours := r.inModule(imp); ours || isStandard(imp) {
					continue
				}
				module := moduleOf(required, imp)
				why := ""
				switch {
				case module == "":
					module, why = imp, "is imported but not required by go.mod"
				case reasons[module] == "":
					why = "is imported but has no reason in " + DependenciesFile
				}
				if why != "" && !reported[module] {
					reported[module] = true
					bad = append(bad, Violation{Path: f.Path, Rule: "dependency", Why: module + " " + why})
				}
			}
		}
	}
	return bad
}

func (r *Repo) required() ([]string, error) {
	text, err := r.Read("go.mod")
	if err != nil {
		return nil, err
	}
	var modules []string
	for line := range strings.Lines(string(text)) {
		if m := requireLine.FindStringSubmatch(line); m != nil {
			modules = append(modules, m[1])
		}
	}
	return modules, nil
}

// moduleOf finds the module with the longest path that holds an import.
func moduleOf(modules []string, imp string) string {
	best := ""
	for _, m := range modules {
		if within(m, imp) && len(m) > len(best) {
			best = m
		}
	}
	return best
}
