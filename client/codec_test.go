package client

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDefaults compares the defaults with the table that all languages share.
func TestDefaults(t *testing.T) {
	text, err := os.ReadFile("../spec/DEFAULTS.txt")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{
		"codec": DefaultCodec, "level": fmt.Sprint(DefaultLevel), "zlib_level": fmt.Sprint(DefaultZlibLevel),
		"min_level": fmt.Sprint(MinLevel), "max_level": fmt.Sprint(MaxLevel), "shuffle": DefaultShuffle,
		"chunk": fmt.Sprint(DefaultChunk), "digest": CRC32C,
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "codecs":
			for _, c := range strings.Fields(value) {
				if err := (&PutOptions{Codec: c}).CheckCodec(); err != nil {
					t.Error(err)
				}
			}
		case "shuffles":
			for _, s := range strings.Fields(value) {
				if err := (&PutOptions{Shuffle: s}).CheckCodec(); err != nil {
					t.Error(err)
				}
			}
		default:
			if have[name] != value {
				t.Errorf("%s is %q here, %q in spec/DEFAULTS.txt", name, have[name], value)
			}
			delete(have, name)
		}
	}
	for name := range have {
		t.Errorf("%s is not in spec/DEFAULTS.txt", name)
	}
}
