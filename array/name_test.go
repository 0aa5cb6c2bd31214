package array

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

var goodNames = []string{
	"a", "sst", "run/1/layer0", "_x", "a_", "a.b", "a..b", "x__y", "c.0.0", "zarr.json2", "Zarr.json",
	"caf\u00e9", "\u6e29\u5ea6/\U0001f30a", "a b", "-", "~", "a:b*?", strings.Repeat("x", MaxPartBytes),
	strings.Repeat("a/", MaxNameParts-1) + "a",
	strings.Repeat(strings.Repeat("x", 255)+"/", 3) + strings.Repeat("y", 255),
}

var badNames = map[string]string{
	"":                                       "empty",
	"/":                                      "empty",
	"/a":                                     "empty",
	"a/":                                     "empty",
	"a//b":                                   "empty",
	".":                                      `"."`,
	"..":                                     `"."`,
	"a/../b":                                 `"."`,
	".hidden":                                `"."`,
	"a/.b":                                   `"."`,
	"__x":                                    `"__"`,
	"a/__b/c":                                `"__"`,
	"zarr.json":                              "reserved",
	"a/zarr.json":                            "reserved",
	"a\x00b":                                 "control",
	"a\nb":                                   "control",
	"a\x7fb":                                 "control",
	"a\u0085b":                               "control",
	`a\b`:                                    "backslash",
	"a\xff":                                  "UTF-8",
	"a\xed\xa0\x80":                          "UTF-8",
	"cafe\u0301":                             "normal form",
	"\u212b":                                 "normal form", // the Angstrom sign is Å in NFC
	strings.Repeat("x", MaxPartBytes+1):      "part of 256 bytes",
	strings.Repeat("a/", MaxNameParts) + "a": "65 parts",
	strings.Repeat(strings.Repeat("x", 204)+"/", 5) + "": "bytes",
}

func TestCheckName(t *testing.T) {
	for _, name := range goodNames {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		for i := range name {
			if err := CheckPrefix(name[:i]); err != nil {
				t.Errorf("prefix %q: %v", name[:i], err)
			}
		}
	}
	for name, says := range badNames {
		if err := CheckName(name); !errors.Is(err, ErrName) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", name, err, says)
		}
	}
}

func TestCheckPrefix(t *testing.T) {
	for _, prefix := range []string{"", "a/", "zarr.json", "a/zarr.js", "_", "a/_"} {
		if err := CheckPrefix(prefix); err != nil {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	for _, prefix := range []string{"/", "//", "a//", ".", "a/.", "__", "a/../", "zarr.json/", "a\x00", `\`, "a\xe6", strings.Repeat("a/", 64)} {
		if err := CheckPrefix(prefix); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, name := range goodNames {
		f.Add(name)
	}
	for name := range badNames {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := CheckName(name)
		if err != nil {
			if !errors.Is(err, ErrName) || len(err.Error()) > 400 {
				t.Fatalf("%q: %v", name, err)
			}
			return
		}
		// What a file system or a Zarr reader would trip over.
		if len(name) > MaxNameBytes || !utf8.ValidString(name) || norm.NFC.String(name) != name || strings.ContainsAny(name, "\x00\\\n") {
			t.Fatalf("%q is a name", name)
		}
		for _, part := range strings.Split(name, "/") {
			if part == "" || part[0] == '.' || strings.HasPrefix(part, "__") || part == "zarr.json" || len(part) > 255 {
				t.Fatalf("%q is a name", name)
			}
		}
		for i := range name {
			if err := CheckPrefix(name[:i]); err != nil {
				t.Fatalf("%q: prefix %q: %v", name, name[:i], err)
			}
		}
	})
}
