package handover

import "time"

// Limits of the channel, spec/HANDOVER.md §7.
const (
	MaxFrame  = 64 << 10 // bytes of a frame, header included
	MaxOffers = 32       // connections of an OFFER
	MaxCarry  = 48 << 10 // bytes of preread and state that a connection takes along
	MaxAddr   = 255      // bytes of an address
	MaxText   = 1 << 10  // bytes of a sentence
	MaxStart  = 32 << 10 // bytes of what START carries
	MaxSlots  = 1 << 16  // words of a table
	MaxCredit = 4096     // offers that a worker has not answered

	DefaultCredit = 64
	HelloTime     = 20 * time.Second     // for the peer's HELLO, and for START behind it
	ReportTime    = time.Millisecond     // for an answer to be told
	ReportAfter   = 16                   // answers that are told at once
	ReportLate    = 5 * time.Millisecond // for an answer to be told to a master that looks into the table
)
