package handover

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Hello is the master's first frame. Behind its members others may follow, which who does not know them skips.
type Hello struct {
	Min, Max   uint8  // versions that the master speaks
	Features   uint64 // that it has: FeatureAnswered
	Required   uint64 // without which it will not work
	Generation uint32 // of the worker: how many the master has started, this one included
	Index      uint32 // the worker's place, from 1
	Slots      uint32 // words of the table
	Credit     uint32 // offers that the master leaves unanswered at most
}

// Features of a master, by bits.
const (
	FeatureAnswered = 1 << 0 // it looks into the table for what is answered, and asks there for a REPORT when it waits for one
)

// Welcome is the worker's first frame.
type Welcome struct {
	Version  uint8
	Features uint64
	PID      uint32
	Files    uint64 // descriptors that the worker may have open
}

// Ready says that the worker serves.
type Ready struct {
	Credit uint32 // offers that it wants unanswered at most
}

// Failed says why the worker cannot serve.
type Failed struct {
	Code uint16 // an exit code
	Text string
}

// Report is what a worker has done. Numbers count from its start, so that a later report says all that an earlier one said.
type Report struct {
	Answered uint64 // offers up to this number are taken, refused or were found revoked
	Live     uint32 // connections that it has now
	Credit   uint32 // as in Ready
	Draining bool
}

// Reason is why an offer was refused.
type Reason uint16

// Reasons. Numbers are never given another meaning.
const (
	ReasonDraining   Reason = 1 // it takes nothing new
	ReasonOverload   Reason = 2 // it has as much as it can
	ReasonTruncated  Reason = 3 // descriptors were lost on the way; the number is 0: whatever is not answered
	ReasonMetadata   Reason = 4 // the descriptor is not what the offer says
	ReasonGeneration Reason = 5 // the offer is for another worker
	ReasonFailed     Reason = 6 // it could not begin with the connection
)

var reasonNames = [...]string{ReasonDraining: "draining", ReasonOverload: "overload", ReasonTruncated: "truncated", ReasonMetadata: "metadata",
	ReasonGeneration: "generation", ReasonFailed: "failed"}

func (r Reason) String() string {
	if int(r) < len(reasonNames) && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

// Refuse says why an offer was not taken.
type Refuse struct {
	Sequence uint64
	Reason   Reason
	Text     string
}

// Meta is what is known of a connection.
type Meta struct {
	Cookie   uint64 // SO_COOKIE
	Accepted int64  // ns since 1970
	Listener uint16 // which of the master's
	Hops     uint8  // how often it was returned
	Client   string // address as text; empty: none
	Local    string
	Preread  []byte // bytes that were read from it and not used
	State    []byte // what the worker that had it before needs the next one to know
}

// Offer is a connection for a worker.
type Offer struct {
	Sequence uint64 // counts the offers of a worker, from 1
	Slot     uint32 // of its word
	Meta
}

// Return is a connection that another worker is to have.
type Return struct {
	To uint32 // index of the worker; 0: any
	Meta
}

// Drain ends a worker.
type Drain struct {
	Time time.Duration // for what is in flight to finish, in ms
}

// Goodbye is why a channel ends.
type Goodbye struct {
	Code uint16 // GoodbyeStop and others
	Text string
}

// Codes of Goodbye.
const (
	GoodbyeStop     = 0 // in order
	GoodbyeProtocol = 1 // the peer broke the protocol
	GoodbyeVersion  = 2 // no version in common
)

// AppendBody appends the message.
func (m *Hello) AppendBody(b []byte) []byte {
	b = append(b, m.Min, m.Max, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, m.Features)
	b = binary.LittleEndian.AppendUint64(b, m.Required)
	for _, v := range []uint32{m.Generation, m.Index, m.Slots, m.Credit} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// ParseBody reads the message.
func (m *Hello) ParseBody(b []byte) error {
	r := reader{b: b}
	m.Min, m.Max = r.u8(), r.u8()
	r.u16()
	m.Features, m.Required = r.u64(), r.u64()
	m.Generation, m.Index, m.Slots, m.Credit = r.u32(), r.u32(), r.u32(), r.u32()
	if err := r.err("HELLO"); err != nil {
		return err
	}
	if m.Min == 0 || m.Max < m.Min || m.Slots == 0 || m.Slots > MaxSlots || m.Credit == 0 || m.Credit > MaxCredit {
		return fmt.Errorf("handover: %w: HELLO with versions %d to %d, %d slots, credit %d", ErrFrame, m.Min, m.Max, m.Slots, m.Credit)
	}
	return nil
}

// AppendBody appends the message.
func (m *Welcome) AppendBody(b []byte) []byte {
	b = append(b, m.Version, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, m.PID)
	b = binary.LittleEndian.AppendUint64(b, m.Features)
	return binary.LittleEndian.AppendUint64(b, m.Files)
}

// ParseBody reads the message.
func (m *Welcome) ParseBody(b []byte) error {
	r := reader{b: b}
	m.Version = r.u8()
	r.take(3)
	m.PID, m.Features, m.Files = r.u32(), r.u64(), r.u64()
	return r.err("WELCOME")
}

// AppendBody appends the message.
func (m *Ready) AppendBody(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, m.Credit) }

// ParseBody reads the message.
func (m *Ready) ParseBody(b []byte) error {
	r := reader{b: b}
	m.Credit = r.u32()
	return r.err("READY")
}

// AppendBody appends the message.
func (m *Failed) AppendBody(b []byte) []byte {
	return appendText(binary.LittleEndian.AppendUint16(b, m.Code), m.Text)
}

// ParseBody reads the message.
func (m *Failed) ParseBody(b []byte) error {
	r := reader{b: b}
	m.Code, m.Text = r.u16(), r.text()
	return r.err("FAILED")
}

// AppendBody appends the message.
func (m *Report) AppendBody(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, m.Answered)
	b = binary.LittleEndian.AppendUint32(b, m.Live)
	b = binary.LittleEndian.AppendUint32(b, m.Credit)
	if m.Draining {
		return append(b, 1)
	}
	return append(b, 0)
}

// ParseBody reads the message.
func (m *Report) ParseBody(b []byte) error {
	r := reader{b: b}
	m.Answered, m.Live, m.Credit, m.Draining = r.u64(), r.u32(), r.u32(), r.u8() != 0
	return r.err("REPORT")
}

// AppendBody appends the message.
func (m *Refuse) AppendBody(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, m.Sequence)
	return appendText(binary.LittleEndian.AppendUint16(b, uint16(m.Reason)), m.Text)
}

// ParseBody reads the message.
func (m *Refuse) ParseBody(b []byte) error {
	r := reader{b: b}
	m.Sequence, m.Reason, m.Text = r.u64(), Reason(r.u16()), r.text()
	return r.err("REFUSE")
}

// AppendBody appends the message.
func (m *Drain) AppendBody(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, uint32(min(max(m.Time.Milliseconds(), 0), 1<<32-1)))
}

// ParseBody reads the message.
func (m *Drain) ParseBody(b []byte) error {
	r := reader{b: b}
	m.Time = time.Duration(r.u32()) * time.Millisecond
	return r.err("DRAIN")
}

// AppendBody appends the message.
func (m *Goodbye) AppendBody(b []byte) []byte {
	return appendText(binary.LittleEndian.AppendUint16(b, m.Code), m.Text)
}

// ParseBody reads the message.
func (m *Goodbye) ParseBody(b []byte) error {
	r := reader{b: b}
	m.Code, m.Text = r.u16(), r.text()
	return r.err("GOODBYE")
}

// AppendBody appends the message.
func (m *Return) AppendBody(b []byte) []byte {
	return m.Meta.append(binary.LittleEndian.AppendUint32(b, m.To))
}

// ParseBody reads the message. Preread and State are parts of b.
func (m *Return) ParseBody(b []byte) error {
	r := reader{b: b}
	m.To = r.u32()
	m.Meta.parse(&r)
	return r.err("RETURN")
}

// Size returns how many bytes an OFFER has for it.
func (o *Offer) Size() int {
	return 2 + 8 + 4 + metaSize + min(len(o.Client), MaxAddr) + min(len(o.Local), MaxAddr) + len(o.Preread) + len(o.State)
}

// AppendOffer appends a connection to the body of an OFFER.
func AppendOffer(b []byte, o *Offer) []byte {
	at := len(b)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, o.Sequence)
	b = binary.LittleEndian.AppendUint32(b, o.Slot)
	b = o.Meta.append(b)
	binary.LittleEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

// ParseOffers reads the body of an OFFER into list, which is used again. Preread and State are parts of b.
func ParseOffers(b []byte, list []Offer) ([]Offer, error) {
	list = list[:0]
	for len(b) > 0 {
		if len(list) == MaxOffers {
			return nil, fmt.Errorf("handover: %w: more than %d connections in an OFFER", ErrFrame, MaxOffers)
		}
		outer := reader{b: b}
		inner := reader{b: outer.take(int(outer.u16()))}
		if err := outer.err("OFFER"); err != nil {
			return nil, err
		}
		b = outer.b
		o := Offer{Sequence: inner.u64(), Slot: inner.u32()}
		o.Meta.parse(&inner)
		if err := inner.err("OFFER"); err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("handover: %w: an OFFER of nothing", ErrFrame)
	}
	return list, nil
}

// metaSize is the size of a Meta with nothing in its texts.
const metaSize = 8 + 8 + 2 + 1 + 1 + 1 + 2 + 2

func (m *Meta) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, m.Cookie)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Accepted))
	b = binary.LittleEndian.AppendUint16(b, m.Listener)
	b = append(b, m.Hops)
	for _, text := range []string{m.Client, m.Local} {
		text = text[:min(len(text), MaxAddr)]
		b = append(append(b, byte(len(text))), text...)
	}
	for _, p := range [][]byte{m.Preread, m.State} {
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	return b
}

func (m *Meta) parse(r *reader) {
	m.Cookie, m.Accepted, m.Listener, m.Hops = r.u64(), int64(r.u64()), r.u16(), r.u8()
	m.Client, m.Local = string(r.take(int(r.u8()))), string(r.take(int(r.u8())))
	m.Preread, m.State = r.take(int(r.u16())), r.take(int(r.u16()))
	if len(m.Preread)+len(m.State) > MaxCarry {
		r.short = true
	}
}

func appendText(b []byte, text string) []byte {
	text = text[:min(len(text), MaxText)]
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(text))), text...)
}

// reader takes numbers from a body; one that is too short gives zeros, and an error in the end.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *reader) text() string {
	p := r.take(int(r.u16()))
	return string(p[:min(len(p), MaxText)])
}

func (r *reader) err(kind string) error {
	if r.short {
		return fmt.Errorf("handover: %w: %s is too short or its parts too long", ErrFrame, kind)
	}
	return nil
}
