package wire

import (
	"fmt"
	"math/bits"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ndferry/array"
)

// TestKindsAreThoseOfTheSpec pins the numbers of frames: the table of spec/WIRE.md §3 and this package must say the same.
func TestKindsAreThoseOfTheSpec(t *testing.T) {
	rows := specTable(t, "## 3 Kinds")
	inSpec := map[Kind]string{}
	for _, row := range rows {
		n, err := strconv.Atoi(row[0])
		if err != nil {
			continue
		}
		inSpec[Kind(n)] = row[1]
		k := Kind(n)
		if k.String() != row[1] {
			t.Errorf("number %d is %s in the spec and %v here", n, row[1], k)
		}
		if reserved := strings.HasPrefix(row[6], "reserved"); reserved == k.Known() {
			t.Errorf("%v: reserved in the spec %v, known here %v", k, reserved, k.Known())
		}
	}
	for k := range kindNames {
		if inSpec[k] == "" {
			t.Errorf("%v is not in the spec", k)
		}
	}
	if len(inSpec) < 26 {
		t.Errorf("only %d kinds found in the spec", len(inSpec))
	}
}

// TestCodesAreThoseOfTheSpec does the same for the codes of ERROR, §9.
func TestCodesAreThoseOfTheSpec(t *testing.T) {
	want := []Code{
		CodeProtocol, CodeVersion, CodeUnsupported, CodeInvalid, CodeNotFound, CodeConflict, CodeIntegrity, CodeLimit,
		CodeNoSpace, CodeBusy, CodeTemporary, CodePermission, CodeDeadline, CodeCancelled, CodeInternal, CodeShutdown,
	}
	rows := specTable(t, "## 9 Errors")
	var got []Code
	for _, row := range rows {
		if strings.HasPrefix(row[0], "`") {
			c := Code(strings.Trim(row[0], "`"))
			got = append(got, c)
			if r := strings.Contains(row[1], "retryable"); r != c.Retryable() && c != CodeTemporary {
				t.Errorf("%s: retryable in the spec %v, here %v", c, r, c.Retryable())
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("spec  %v\nhere  %v", got, want)
	}
}

func TestLimitsAreThoseOfTheSpec(t *testing.T) {
	text := readSpec(t)
	for _, s := range []string{
		fmt.Sprintf("| payload of PUT and META | %d KiB + %d MiB", MaxControl>>10, (MaxDescribing-MaxControl)>>20),
		fmt.Sprintf("| payload of ENTRIES | %d MiB", MaxEntries>>20),
		fmt.Sprintf("| payload of CHUNK | %d MiB + %d KiB", MaxCell>>20, (MaxChunk-MaxCell)>>10),
		fmt.Sprintf("| a cell | 1 byte to %d MiB raw", MaxCell>>20),
		fmt.Sprintf("| attributes | %d MiB, depth 16", MaxAttributes>>20),
		fmt.Sprintf("| open operations on a connection | %d |", MaxStreams),
		fmt.Sprintf("| cell ranges of a GET or an ACCEPT | %s |", "4,096"),
		"| cells of an array | 2^32 - 1 |",
		fmt.Sprintf("| bytes of an array, with the padding of its cells | 2^%d (§7) |", bits.Len(MaxArray)-1),
		fmt.Sprintf("2^%d of an array that another program wrote", bits.Len(array.MaxCells)-1),
	} {
		if !strings.Contains(text, s) {
			t.Errorf("spec/WIRE.md does not say %q", s)
		}
	}
}

func readSpec(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../spec/WIRE.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// specTable returns the cells of the rows of the tables in a section.
func specTable(t *testing.T, section string) (rows [][]string) {
	t.Helper()
	_, text, ok := strings.Cut(readSpec(t), section+"\n")
	if !ok {
		t.Fatalf("spec/WIRE.md has no %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for _, line := range strings.Split(text, "\n") {
		if regexp.MustCompile(`^\| [^|-]`).MatchString(line) {
			var row []string
			for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
				row = append(row, strings.TrimSpace(cell))
			}
			rows = append(rows, row)
		}
	}
	return rows
}
