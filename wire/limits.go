package wire

import "time"

// Limits of version 1, spec/WIRE.md §8. Everything that a peer can make large is here.
const (
	MaxControl    = 64 << 10           // payload of a control frame
	MaxAttributes = 1 << 20            // text of the user's attributes
	MaxDescribing = MaxControl + 2<<20 // payload of PUT and META: attributes, escaped
	MaxEntries    = 2 << 20            // payload of ENTRIES
	MaxCell       = 16 << 20           // raw bytes of a cell
	MaxChunk      = MaxCell + 64<<10   // payload of CHUNK: a cell that does not compress, and a container's header
	MaxCells      = 1<<32 - 1          // cells of an array; a server takes fewer, spec/WIRE.md §8.1
	MaxArray      = 1 << 53            // bytes of an array with its padding: what JSON says exactly
	MaxStreams    = 64                 // open operations of a connection
	MaxRanges     = 4096               // ranges of a GET or an ACCEPT
	RangesSent    = 2000               // of them, those that ours put into one: their text fits a control frame, however large the numbers
	MaxPage       = 1000               // entries of a page of LIST
	MaxDepth      = 32                 // of JSON
	MaxMessage    = 2 << 10            // bytes of the sentence in an ERROR
	MaxSoftware   = 100                // bytes of the software's name in HELLO
	MaxCodecWhy   = 500                // bytes of the sentence about the choice of a codec
	MinBlosc      = 16                 // bytes of a container of codec blosc at least, and what it adds to a cell at most
	MaxCredit     = uint64(1) << 62    // outstanding raw bytes; as the credit of HELLO: no bound but the stream's
	MinCost       = 4 << 10            // credit that a cell costs at least
	MinCredit     = 16 << 20           // the first credit lets one cell of any size in
	FirstCredit   = 32 << 20           // of our HELLO, and what a server grants at most
	MostCredit    = 1 << 30            // what a client grants at most, which only a link that holds half of it can use
	CreditStep    = 4 << 20            // what is worth a CREDIT while nobody knows the link or the cells
	CreditAhead   = 2 << 20            // what a sender may have besides one cell at least
	AliasSize     = 8                  // payload of ALIAS
	MaxBad        = 100                // problems that a REPORT names
	MaxDamages    = 8                  // times that one cell is asked for again
	MaxAwaited    = 4096               // cells of a PUT that came damaged and did not come again yet
	MaxAsked      = 64                 // of them, RESENDs that were not answered yet: a sender may not read while it sends
)

// PaceInterval is the shortest time over which a receiver measures how fast cells come.
const PaceInterval = 5 * time.Millisecond

// MaxPayload is the largest payload of a frame of kind k, in bytes.
func MaxPayload(k Kind) uint32 {
	switch k {
	case Chunk:
		return MaxChunk
	case Put, Meta:
		return MaxDescribing
	case Entries:
		return MaxEntries
	}
	return MaxControl
}

// Cost is the credit that a cell of raw bytes takes, spec/WIRE.md §6: small cells cost a receiver more than their bytes.
func Cost(raw uint32) uint64 { return max(uint64(raw), MinCost) }
