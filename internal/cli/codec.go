package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"ndferry/client"
)

// codecFlags are the flags of put and send that say how chunks are compressed.
type codecFlags struct {
	codec    string
	level    int
	shuffle  string
	linkRate sizeValue
	changed  func(string) bool
}

func (f *codecFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.codec, "codec", client.DefaultCodec, "how chunks are compressed: auto, none, lz4, zlib or zstd")
	flags.IntVar(&f.level, "level", client.DefaultLevel, fmt.Sprintf("effort of the codec, %d to %d; for zlib %d unless given",
		client.MinLevel, client.MaxLevel, client.DefaultZlibLevel))
	flags.StringVar(&f.shuffle, "shuffle", client.DefaultShuffle, "reorder bytes before compression: auto, none, byte or bit")
	flags.Var(&f.linkRate, "link-rate", "bytes a second of the connection, for --codec auto; 0B: what is measured or assumed")
	f.changed = flags.Changed
}

// options sets what the flags say; the client checks it before a byte is sent.
func (f *codecFlags) options(op string, opts *client.PutOptions) error {
	opts.Codec, opts.Shuffle, opts.LinkRate = f.codec, f.shuffle, float64(f.linkRate)
	if f.changed("level") {
		opts.Level = &f.level
	}
	if err := opts.CheckCodec(); err != nil {
		return usageErrorf("%s: %w", op, err)
	}
	return nil
}

// ratio is raw bytes over stored ones, 1 when there are none.
func ratio(raw, stored int64) float64 {
	if stored == 0 {
		return 1
	}
	return float64(raw) / float64(stored)
}

// codecText describes a codec for people.
func codecText(name, why string, ratio float64) string {
	text := name
	if name != "none" {
		text = fmt.Sprintf("%s, %.2f times smaller", name, ratio)
	}
	if why != "" {
		text += " (" + why + ")"
	}
	return text
}
