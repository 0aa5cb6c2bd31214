package cli

import (
	"os"
	"strings"
	"testing"
)

// One version in the program, the Python package and the changelog.
func TestVersions(t *testing.T) {
	for file, want := range map[string]string{
		"../../python/pyproject.toml":          "\nversion = \"" + Version + "\"\n",
		"../../python/src/ndferry/__init__.py": "\n__version__ = \"" + Version + "\"\n",
		"../../CHANGELOG.md":                   "\n## " + Version + " (",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not have %q", file, want)
		}
	}
	var out strings.Builder
	if code := Main([]string{"version"}, strings.NewReader(""), &out, &out, os.LookupEnv); code != 0 || !strings.HasPrefix(out.String(), "ndferry "+Version+" (") {
		t.Errorf("ndferry version ends with %d and prints %q", code, out.String())
	}
}
