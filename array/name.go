package array

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// ErrName is wrapped by every refusal of an array's name or of a prefix.
var ErrName = errors.New("bad array name")

// CheckName reports whether name can name an array: 1 to 64 parts of 1 to 255
// bytes joined by "/", at most 1,024 bytes in all, UTF-8 in normal form C, no
// control characters, no backslash, and no part that begins with "." or "__" or
// is "zarr.json" (Zarr keeps those for itself). Errors wrap ErrName.
func CheckName(name string) error {
	if name == "" {
		return nameError(name, "it is empty")
	}
	return checkParts(name, false)
}

// CheckPrefix reports whether some name could begin with prefix, which is a
// plain string: "run/1" finds run/1, run/12 and run/1/a. The empty prefix finds
// everything. Errors wrap ErrName.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return checkParts(prefix, true)
}

// checkParts checks a name, or, when open, one whose last part may go on.
func checkParts(name string, open bool) error {
	switch {
	case len(name) > MaxNameBytes:
		return nameError(name, fmt.Sprintf("%d bytes, the most is %d", len(name), MaxNameBytes))
	case !utf8.ValidString(name):
		return nameError(name, "not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return nameError(name, "it has a control character")
	case strings.Contains(name, `\`):
		return nameError(name, "it has a backslash; parts are joined by /")
	case !norm.NFC.IsNormalString(name):
		return nameError(name, "not in Unicode normal form C")
	}
	parts := strings.Split(name, "/")
	if len(parts) > MaxNameParts {
		return nameError(name, fmt.Sprintf("%d parts, the most is %d", len(parts), MaxNameParts))
	}
	for i, part := range parts {
		unfinished := open && i == len(parts)-1
		switch {
		case part == "" && !unfinished:
			return nameError(name, "a part is empty; write a/b, without / at the beginning or end")
		case len(part) > MaxPartBytes:
			return nameError(name, fmt.Sprintf("a part of %d bytes, the most is %d", len(part), MaxPartBytes))
		case strings.HasPrefix(part, "."):
			return nameError(name, `a part begins with "."`)
		case strings.HasPrefix(part, "__"):
			return nameError(name, `a part begins with "__", which Zarr reserves`)
		case part == "zarr.json" && !unfinished:
			return nameError(name, "zarr.json is reserved")
		}
	}
	return nil
}

func nameError(name, why string) error {
	return fmt.Errorf("array: %w: %s: %s", ErrName, quote(name), why)
}
