package repocheck

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Arrow says what a package may import besides the standard library. Imports
// only point down: whatever is not listed is refused, and so is a package
// that has no arrow. Test files are free, since a test of a lower package may
// drive it through a higher one.
type Arrow struct {
	From  string   // package directory; "x/*" is any package below x without an arrow of its own
	To    []string // package directories of this module, with the same "x/*"
	Extra []string // modules of others
	Never []string // directories that must not be reached by any path of imports
	Why   string
}

const (
	json        = "github.com/go-json-experiment/json"
	xsys        = "golang.org/x/sys"
	xterm       = "golang.org/x/term"
	xtext       = "golang.org/x/text"
	compress    = "github.com/klauspost/compress"
	lz4         = "github.com/pierrec/lz4/v4"
	cobra       = "github.com/spf13/cobra"
	pflag       = "github.com/spf13/pflag"
	progressbar = "github.com/schollz/progressbar/v3"
	prometheus  = "github.com/prometheus/client_golang"
	awsSDK      = "github.com/aws/aws-sdk-go-v2"
	systemd     = "github.com/coreos/go-systemd/v22"
	rapid       = "pgregory.net/rapid"
	cmp         = "github.com/google/go-cmp"
)

// Arrows is the map of the repository, top to bottom.
var Arrows = []Arrow{
	{From: "cmd/ndferry", To: []string{"internal/cli"},
		Why: "main stays a few lines, so that tests run the real command line in-process"},
	{From: "internal/cli",
		To: []string{"internal/master", "internal/worker", "internal/handover", "internal/control", "internal/web", "internal/bench", "internal/bench/transfer", "internal/session",
			"client", "evloop", "array", "wire", "wire/codec", "store", "store/open"},
		Extra: []string{cobra, pflag, progressbar, xterm, xsys, json},
		Why:   "the command line maps flags to the Config of each package; it opens stores only through store/open; a worker process begins here"},
	{From: "internal/control", To: []string{"fdpass"}, Extra: []string{json},
		Why: "asks and answers on a socket; what it carries is the caller's"},
	{From: "internal/web", Extra: []string{prometheus, json},
		Why: "sees a snapshot interface of its own, never a session or a store; the only user of the metrics library"},
	{From: "internal/master", To: []string{"internal/handover", "fdpass"}, Extra: []string{xsys, systemd},
		Never: []string{"wire", "wire/*", "internal/session", "store", "store/*"},
		Why:   "the master must survive any byte a client sends, so it has no code that could read one"},
	{From: "internal/worker",
		To:    []string{"internal/handover", "internal/session", "internal/pace", "evloop", "fdpass", "store/open", "store", "wire", "wire/codec", "array", "internal/sysmem"},
		Extra: []string{xsys},
		Why:   "a worker drives sessions with a loop and a store; it meets the master only in handover"},
	{From: "internal/handover", To: []string{"fdpass"}, Extra: []string{xsys, json},
		Never: []string{"wire", "wire/*", "internal/session", "store", "store/*"},
		Why:   "the messages between our processes; the master imports it"},
	{From: "internal/session", To: []string{"internal/pace", "wire", "wire/codec", "store", "array"}, Extra: []string{json},
		Never: []string{"evloop", "fdpass", "store/dir", "store/mem", "store/object", "store/open"},
		Why:   "bytes in, actions out: the same session runs under the loop, a goroutine, a test and a simulation"},
	{From: "internal/pace", To: []string{"wire"}, Extra: []string{xsys},
		Why: "how much credit a receiver gives, for client and server alike; it asks the kernel about a descriptor and does no other I/O"},
	{From: "internal/bench", Extra: []string{xsys, json},
		Why: "measures processes from outside, so that it measures ours and others alike"},
	{From: "internal/bench/cmd/ndload", To: []string{"client", "internal/pace", "array", "wire"}, Extra: []string{json},
		Why: "a crowd of clients, good and bad, to load a server with"},
	{From: "internal/bench/transfer", To: []string{"internal/bench", "client", "array"},
		Why: "the client's side of bench transfer, which is the product's own"},
	{From: "bench/peers/ours", To: []string{"client", "array", "bench/peers/rounds"},
		Why: "our client as a program like those that it is measured beside"},
	{From: "internal/bench/*", To: []string{"internal/bench"}, Extra: []string{json},
		Why: "the commands of the runner"},
	{From: "internal/sysmem",
		Why: "reads files of the kernel; whoever has a budget may ask it"},
	{From: "internal/planted",
		Why: "tests alone: mistakes and the tests that must see them; it reads files and runs go test"},
	{From: "internal/repocheck",
		Why: "must work when everything else is broken"},
	{From: "internal/fdcheck", Extra: []string{xsys},
		Why: "a test helper that any package may use, so it uses none"},

	{From: "client/interop", To: []string{"client"},
		Why: "the Go client as a program that the tests of the Python package talk to"},
	{From: "internal/frozen",
		Why: "tests that replay what version 1 said; only they import what they replay it to"},

	{From: "client", To: []string{"internal/pace", "wire", "wire/codec", "array", "fdpass", "internal/session", "store"},
		Extra: []string{xsys, json},
		Never: []string{"store/dir", "store/object", "store/open"},
		Why:   "a blocking client of the protocol; it drives a session where it receives directly, and never opens a store"},

	{From: "store/open", To: []string{"store", "store/dir", "store/mem", "store/object", "store/retry", "store/limit", "store/fault"},
		Why: "the one table from URL to back end"},
	{From: "store/storetest", To: []string{"store", "array", "wire/codec"}, Extra: []string{cmp, rapid},
		Why: "the conformance suite knows the interface, not the back ends"},
	{From: "store/mem", To: []string{"store", "array", "wire/codec", "internal/sysmem"}, Extra: []string{xsys},
		Why: "as the others; how much it may keep depends on the machine"},
	{From: "store/*", To: []string{"store", "array", "wire/codec"}, Extra: []string{xsys, xtext, json, awsSDK, compress},
		Why: "back ends and wrappers implement the interface and do not know each other"},
	{From: "store", To: []string{"array", "wire/codec"}, Extra: []string{json, xtext, xsys},
		Why: "the interface, names and layout that all back ends share"},

	{From: "wire/codec/interop", To: []string{"wire/codec"},
		Why: "the codec as a process for the scripts that compare it with C-Blosc"},
	{From: "bench/codec", To: []string{"wire/codec"},
		Why: "times the codec in turns with C-Blosc, whose side is a Python script"},
	{From: "wire/codec/unzstd", Extra: []string{xsys},
		Why: "decodes frames of strangers; of x/sys only what the processor can do"},
	{From: "wire/codec", To: []string{"array", "wire/codec/unzstd"}, Extra: []string{compress, lz4, json, xsys},
		Why: "chunk codecs are pure bytes; the compressors come in here and nowhere else"},
	{From: "wire", To: []string{"array"}, Extra: []string{json},
		Why: "the protocol as pure bytes: the same decoder under the loop, the client and the fuzzer; strict JSON for headers"},

	{From: "evloop", Extra: []string{xsys},
		Why: "useful alone; knows readiness and bytes, not descriptors in messages and not arrays"},
	{From: "fdpass", Extra: []string{xsys},
		Why: "useful alone; knows descriptors, not the loop and not the protocol"},
	{From: "array", Extra: []string{xsys, json, xtext},
		Why: "the nouns that everything shares; strict JSON because Zarr metadata is one of them"},
	{From: "examples/*", To: []string{"evloop", "fdpass", "client", "array"}, Why: "programs to learn from: they use what users may use"},
	{From: "bench/peers/rounds", Why: "arguments, rounds and output of the peers of transfers"},
	{From: "bench/peers/*", To: []string{"bench/peers/rounds"}, Extra: []string{xsys},
		Why: "what we measure ourselves against uses nothing of ours; peers with more needs are modules of their own"},
	{From: "evloop/*", To: []string{"evloop"}, Extra: []string{xsys}, Why: "parts and examples of evloop"},
	{From: "fdpass/*", To: []string{"fdpass"}, Extra: []string{xsys}, Why: "parts and examples of fdpass"},
	{From: "array/*", To: []string{"array"}, Extra: []string{xsys, json, xtext}, Why: "parts of array; still no I/O"},
	{From: "wire/*", To: []string{"wire", "array"}, Extra: []string{json}, Why: "parts of wire; still no I/O"},
}

// CheckImports holds every package of the tree to its arrow.
func CheckImports(r *Repo, arrows []Arrow) []Violation {
	var bad []Violation
	graph := map[string][]string{}
	for _, dir := range r.Dirs() {
		pkg := r.Packages[dir]
		arrow, known := arrowOf(arrows, dir)
		if !known {
			bad = append(bad, Violation{Path: dir, Rule: "imports",
				Why: "package has no arrow: add one with its reason to internal/repocheck/imports.go"})
			continue
		}
		for _, f := range pkg.Files {
			if f.Test {
				continue
			}
			for _, imp := range f.Imports {
				if below, ok := r.inModule(imp); ok {
					graph[dir] = append(graph[dir], below)
				}
				if why := r.refuse(arrow, dir, imp); why != "" {
					bad = append(bad, Violation{Path: f.Path, Rule: "imports", Why: why})
				}
			}
		}
	}
	for _, dir := range r.Dirs() {
		arrow, _ := arrowOf(arrows, dir)
		bad = append(bad, checkNever(graph, arrow, dir)...)
	}
	return bad
}

// refuse returns why a package may not import path, or "".
func (r *Repo) refuse(arrow Arrow, dir, imp string) string {
	switch below, ours := r.inModule(imp); {
	case ours && below != dir && !matchAny(arrow.To, below):
		return fmt.Sprintf("%s may not import %s: %s", dir, below, arrow.Why)
	case ours, isStandard(imp):
		return ""
	case !slices.ContainsFunc(arrow.Extra, func(module string) bool { return within(module, imp) }):
		return fmt.Sprintf("%s may not import %s: %s", dir, imp, arrow.Why)
	}
	return ""
}

// checkNever follows the imports from dir and reports what its arrow forbids
// to reach, with the path that reaches it.
func checkNever(graph map[string][]string, arrow Arrow, dir string) []Violation {
	if len(arrow.Never) == 0 {
		return nil
	}
	var bad []Violation
	seen := map[string]bool{dir: true}
	queue := [][]string{{dir}}
	for len(queue) > 0 {
		way := queue[0]
		queue = queue[1:]
		for _, next := range graph[way[len(way)-1]] {
			if seen[next] {
				continue
			}
			seen[next] = true
			longer := append(slices.Clone(way), next)
			if matchAny(arrow.Never, next) {
				bad = append(bad, Violation{Path: dir, Rule: "imports",
					Why: fmt.Sprintf("reaches %s, which it never may: %s", strings.Join(longer, " -> "), arrow.Why)})
			}
			queue = append(queue, longer)
		}
	}
	return bad
}

func (r *Repo) inModule(imp string) (dir string, ok bool) {
	if imp == r.Module {
		return ".", true
	}
	return strings.CutPrefix(imp, r.Module+"/")
}

// isStandard reports whether an import path belongs to the standard library:
// its first element has no dot, as the go command demands of others' paths.
func isStandard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

func within(module, imp string) bool { return imp == module || strings.HasPrefix(imp, module+"/") }

// arrowOf finds the arrow of a directory: its own, else the nearest "x/*".
func arrowOf(arrows []Arrow, dir string) (Arrow, bool) {
	for _, a := range arrows {
		if a.From == dir {
			return a, true
		}
	}
	for up := path.Dir(dir); up != "."; up = path.Dir(up) {
		for _, a := range arrows {
			if a.From == up+"/*" {
				return a, true
			}
		}
	}
	return Arrow{}, false
}

func matchAny(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if up, ok := strings.CutSuffix(p, "/*"); ok {
			return strings.HasPrefix(dir, up+"/")
		}
		return p == dir
	})
}
