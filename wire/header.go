package wire

import (
	"encoding/binary"
	"fmt"
)

// Header is the fixed part of a frame, spec/WIRE.md §1.
type Header struct {
	Kind    Kind
	Flags   Flags
	Handles uint16 // descriptors that came with the frame
	Stream  uint32 // the operation; 0 is the connection
	Length  uint32 // bytes of payload
	Index   uint64 // by kind: cell, credit, token, count
	Raw     uint32 // by kind: raw bytes of the cell, level
}

// Size is the number of bytes of the whole frame.
func (h Header) Size() int {
	if h.Length == 0 {
		return HeaderSize
	}
	return HeaderSize + int(h.Length) + TrailerSize
}

// AppendHeader appends the 32 bytes of h.
func AppendHeader(dst []byte, h Header) []byte {
	n := len(dst)
	dst = append(dst, Magic...)
	dst = append(dst, byte(h.Kind), byte(h.Flags))
	dst = binary.LittleEndian.AppendUint16(dst, h.Handles)
	dst = binary.LittleEndian.AppendUint32(dst, h.Stream)
	dst = binary.LittleEndian.AppendUint32(dst, h.Length)
	dst = binary.LittleEndian.AppendUint64(dst, h.Index)
	dst = binary.LittleEndian.AppendUint32(dst, h.Raw)
	return binary.LittleEndian.AppendUint32(dst, Checksum(dst[n:]))
}

// ParseHeader reads the first 32 bytes of b and checks all that can be checked without knowing the conversation: magic,
// CRC, flags and, by [Header.Check], the limits of the kind. The header is returned also with an error of Check.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, errorf("1", 0, CodeProtocol, "header: %d bytes of %d", len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if string(b[:3]) != Magic[:3] {
		return Header{}, errorf("1", 0, CodeProtocol, "header: the bytes %q are not ndferry's protocol", b[:4])
	}
	if b[3] != Magic[3] {
		return Header{}, errorf("1", 3, CodeProtocol, "header: the other side sends frames of layout version %q, this side speaks version %q: update the older of the two", b[3], Magic[3])
	}
	if got, want := Checksum(b[:28]), binary.LittleEndian.Uint32(b[28:]); got != want {
		return Header{}, errorf("1", 28, CodeProtocol, "header: CRC32C is %08x, the frame says %08x", got, want)
	}
	h := Header{
		Kind:    Kind(b[4]),
		Flags:   Flags(b[5]),
		Handles: binary.LittleEndian.Uint16(b[6:]),
		Stream:  binary.LittleEndian.Uint32(b[8:]),
		Length:  binary.LittleEndian.Uint32(b[12:]),
		Index:   binary.LittleEndian.Uint64(b[16:]),
		Raw:     binary.LittleEndian.Uint32(b[24:]),
	}
	return h, h.Check()
}

// Check refuses a header that no conversation allows: unknown flags, a length over the limit of the kind, fields that the
// kind does not use, descriptors that nobody agreed to.
func (h Header) Check() error {
	switch {
	case h.Flags&^Critical != 0:
		return errorf("1", 5, CodeProtocol, "%v: unknown flags %#x", h.Kind, uint8(h.Flags))
	case h.Length > MaxPayload(h.Kind):
		return errorf("8", 12, CodeLimit, "%v: payload of %d bytes, at most %d are allowed", h.Kind, h.Length, MaxPayload(h.Kind))
	case !h.Kind.Known():
		if h.Flags&Critical != 0 {
			return errorf("3", 4, CodeUnsupported, "frame %v is critical and this side does not know it", h.Kind)
		}
		return nil
	case h.Handles != 0:
		return errorf("1", 6, CodeProtocol, "%v: %d descriptors, but none were agreed", h.Kind, h.Handles)
	}
	u := uses[h.Kind]
	switch {
	case h.Index != 0 && !u.index:
		return errorf("3", 16, CodeProtocol, "%v: index %d where none is used", h.Kind, h.Index)
	case h.Raw != 0 && !u.raw:
		return errorf("3", 24, CodeProtocol, "%v: raw %d where none is used", h.Kind, h.Raw)
	case (h.Stream == 0) != u.connection && h.Kind != Fail:
		return errorf("3", 8, CodeProtocol, "%v: stream %d", h.Kind, h.Stream)
	case h.Length == 0 && u.payload:
		return errorf("3", 12, CodeProtocol, "%v: no payload", h.Kind)
	case h.Length != 0 && u.empty:
		return errorf("3", 12, CodeProtocol, "%v: payload of %d bytes where there is none", h.Kind, h.Length)
	}
	return u.check(h)
}

// use says which fields a kind has, the columns of spec/WIRE.md §3.
type use struct {
	connection bool // stream 0
	index, raw bool
	payload    bool // must have one
	empty      bool // must have none
}

var uses = map[Kind]use{
	Hello:   {connection: true, payload: true},
	Ping:    {connection: true, index: true, empty: true},
	Pong:    {connection: true, index: true, empty: true},
	Fail:    {payload: true},
	Credit:  {connection: true, index: true, empty: true},
	Put:     {payload: true},
	Finish:  {index: true},
	Get:     {payload: true},
	Stat:    {payload: true},
	List:    {payload: true},
	Delete:  {payload: true},
	Verify:  {payload: true},
	Cancel:  {raw: true, empty: true},
	Accept:  {payload: true},
	Ack:     {index: true, raw: true, empty: true},
	Receipt: {payload: true},
	Meta:    {payload: true},
	Entries: {payload: true},
	Report:  {raw: true, payload: true},
	Done:    {index: true, empty: true},
	Chunk:   {index: true, raw: true, payload: true},
	Alias:   {index: true, raw: true, payload: true},
	Fill:    {index: true, raw: true, empty: true},
	Resend:  {index: true, empty: true},
}

func (u use) check(h Header) error {
	switch h.Kind {
	case Chunk:
		if h.Raw == 0 {
			return errorf("8", 24, CodeProtocol, "CHUNK: a cell of no bytes")
		}
		if h.Raw > MaxCell {
			return errorf("8", 24, CodeLimit, "CHUNK: a cell of %d bytes, at most %d are allowed", h.Raw, MaxCell)
		}
		if h.Index >= MaxCells {
			return errorf("8", 16, CodeLimit, "CHUNK: cell %d, an array has at most %d", h.Index, uint64(MaxCells))
		}
	case Resend:
		if h.Index >= MaxCells {
			return errorf("8", 16, CodeLimit, "RESEND: cell %d, an array has at most %d", h.Index, uint64(MaxCells))
		}
	case Alias, Fill:
		if h.Index >= MaxCells || h.Raw == 0 || uint64(h.Raw) > MaxCells-h.Index {
			return errorf("8", 16, CodeLimit, "%v: %d cells from %d, an array has at most %d", h.Kind, h.Raw, h.Index, uint64(MaxCells))
		}
		if h.Kind == Alias && h.Length != AliasSize {
			return errorf("5.8", 12, CodeProtocol, "ALIAS: payload of %d bytes, it has %d", h.Length, AliasSize)
		}
	case Credit:
		if h.Index == 0 || h.Index > MaxCredit {
			return errorf("6", 16, CodeProtocol, "CREDIT: %d bytes", h.Index)
		}
	case Cancel, Report:
		if h.Raw > 1 {
			return errorf("3", 24, CodeProtocol, "%v: raw %d", h.Kind, h.Raw)
		}
	case Ack:
		if h.Raw != AckReceived && h.Raw != AckDurable {
			return errorf("3", 24, CodeProtocol, "ACK: level %d", h.Raw)
		}
	}
	return nil
}

// AppendTrailer appends the 8 bytes behind a payload.
func AppendTrailer(dst []byte, crc uint32, status Status) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, crc)
	return binary.LittleEndian.AppendUint32(dst, uint32(status))
}

// ParseTrailer reads the first 8 bytes of b.
func ParseTrailer(b []byte) (crc uint32, status Status, err error) {
	if len(b) < TrailerSize {
		return 0, 0, errorf("1", 0, CodeProtocol, "trailer: %d bytes of %d", len(b), TrailerSize)
	}
	crc, status = binary.LittleEndian.Uint32(b), Status(binary.LittleEndian.Uint32(b[4:]))
	if status != Whole && status != Aborted {
		return 0, 0, errorf("1", 4, CodeProtocol, "trailer: status %08x", uint32(status))
	}
	return crc, status, nil
}

// AppendFrame appends a whole frame: h with the length of payload, the payload and its trailer.
func AppendFrame(dst []byte, h Header, payload []byte) []byte {
	checkPayload(h.Kind, len(payload))
	h.Length = uint32(len(payload))
	dst = AppendHeader(dst, h)
	if len(payload) == 0 {
		return dst
	}
	dst = append(dst, payload...)
	return AppendTrailer(dst, Checksum(payload), Whole)
}

// checkPayload panics when a payload of ours is too long for its kind.
func checkPayload(k Kind, n int) {
	if n > int(MaxPayload(k)) {
		panic(fmt.Sprintf("wire: %v with %d bytes of payload", k, n))
	}
}
