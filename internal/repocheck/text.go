package repocheck

import (
	"bytes"
	"path"
	"regexp"
	"strings"
)

// textRule refuses a pattern in the files that it applies to.
type textRule struct {
	rule    string
	why     string
	applies func(name string) bool
	pattern *regexp.Regexp
}

func anyFile(string) bool { return true }

func pythonSource(name string) bool {
	return strings.HasPrefix(name, "python/src/") && path.Ext(name) == ".py"
}

var textRules = []textRule{
	{"machine path", "names a directory of one machine", anyFile,
		regexp.MustCompile(`/(work|farm)/`)},
	{"python", "unpickling runs code that a peer chose", pythonSource,
		regexp.MustCompile(`^\s*(?:import|from)\s+(?:pickle|_pickle|cPickle|cloudpickle|dill|shelve|marshal)\b|allow_pickle\s*=\s*True`)},
	{"python", "eval and exec run code that a peer may have chosen", pythonSource,
		regexp.MustCompile(`(?:^|[^.\w])(?:eval|exec)\s*\(`)},
}

// CheckText refuses paths of one machine anywhere, and pickle, eval and exec
// in the Python package. Files with a NUL byte are binary and passed over,
// unless they are programs, which are built and never kept.
func CheckText(r *Repo) []Violation {
	var bad []Violation
	for _, name := range r.Files {
		src, err := r.Read(name)
		if err != nil {
			bad = append(bad, Violation{Path: name, Rule: "text", Why: err.Error()})
			continue
		}
		if bytes.HasPrefix(src, []byte("\x7fELF")) {
			bad = append(bad, Violation{Path: name, Rule: "text", Why: "is a program; remove it, and build into bin/"})
		}
		if bytes.IndexByte(src, 0) >= 0 {
			continue
		}
		for _, rule := range textRules {
			if !rule.applies(name) {
				continue
			}
			for i, line := range bytes.Split(src, []byte("\n")) {
				if rule.pattern.Match(line) {
					bad = append(bad, Violation{Path: name, Line: i + 1, Rule: rule.rule, Why: rule.why})
				}
			}
		}
	}
	return bad
}
