package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ndferry/client"
)

// addrValue is a flag that holds one address.
type addrValue struct{ client.Addr }

// Set parses the flag's text.
func (v *addrValue) Set(s string) (err error) {
	v.Addr, err = client.ParseAddr(s)
	return err
}

// String is "" until there is an address, so that help shows no default.
func (v *addrValue) String() string {
	if v.Addr == (client.Addr{}) {
		return ""
	}
	return v.Addr.String()
}

// Type names the kind of value in help.
func (v *addrValue) Type() string { return "ADDR" }

// addAddrFlag gives a client command its --addr.
func addAddrFlag(cmd *cobra.Command) *client.Addr {
	v := new(addrValue)
	if err := v.Set(client.DefaultAddr); err != nil {
		panic(err) // the constant is wrong
	}
	cmd.Flags().Var(v, "addr", "server: tcp://HOST:PORT, unix:///path or unix://@name")
	return &v.Addr
}

// sizeValue is a flag that holds a number of bytes.
type sizeValue int64

// Set parses the flag's text.
func (v *sizeValue) Set(s string) error {
	n, err := parseSize(s)
	*v = sizeValue(n)
	return err
}

// Type names the kind of value in help.
func (v *sizeValue) Type() string { return "SIZE" }

func (v *sizeValue) String() string { return formatSize(int64(*v)) }

// sizeUnits are the suffixes of a size, in lower case. As elsewhere a bare
// letter or "KiB" counts in 1,024s and "kB" in 1,000s.
var sizeUnits = map[string]int64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// parseSize reads a number of bytes: a whole number with a unit or none, such
// as 4MiB, 64k or 4096.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, known := sizeUnits[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	n, err := strconv.ParseUint(digits, 10, 63)
	switch {
	case !known || err != nil:
		return 0, fmt.Errorf("size %q: want a whole number and a unit, such as 4MiB, 64k or 4096", s)
	case n > uint64(math.MaxInt64/unit):
		return 0, fmt.Errorf("size %q: too large", s)
	}
	return int64(n) * unit, nil
}

// formatSize writes a number of bytes for people: exactly where it is a whole
// number of its unit, which parseSize reads back, else with one decimal.
func formatSize(n int64) string {
	unit, name := int64(1), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n/unit < 1024 {
			break
		}
		unit, name = unit<<10, next
	}
	switch {
	case unit == 1:
		return strconv.FormatInt(n, 10) + "B"
	case n%unit == 0:
		return strconv.FormatInt(n/unit, 10) + name
	}
	return strconv.FormatFloat(float64(n)/float64(unit), 'f', 1, 64) + name
}
