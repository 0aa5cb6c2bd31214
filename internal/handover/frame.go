package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Errors to test for with errors.Is.
var (
	ErrFrame       = errors.New("malformed frame")                   // the peer breaks the format
	ErrVersion     = errors.New("no common version")                 // the peer speaks other versions, or needs features that are not known
	ErrGeneration  = errors.New("another generation")                // the frame is of or for a worker that is not this one
	ErrFiles       = errors.New("wrong descriptors with a frame")    // their number, or what one is; all that came have been closed
	ErrUnsupported = errors.New("unknown kind of frame is critical") // a newer peer needs what is not known here
	ErrWords       = errors.New("not a table of words")              // the memory is not what HELLO says
)

// Versions that this program speaks.
const (
	MinVersion = 1
	MaxVersion = 1
)

// headerSize is the size of a frame's header.
const headerSize = 20

// magic begins every frame: "NDHO".
const magic = 'N' | 'D'<<8 | 'H'<<16 | 'O'<<24

// flagCritical says that who does not know the kind may not go on.
const flagCritical = 1

// Kind is what a frame is. Numbers are never given another meaning.
type Kind uint8

// Kinds of frames. M is the master, W a worker.
const (
	KindHello   Kind = 1  // M: versions, generation, the table
	KindWelcome Kind = 2  // W: the version, who it is
	KindStart   Kind = 3  // M: what to serve
	KindReady   Kind = 4  // W: it serves
	KindFailed  Kind = 5  // W: it cannot, and ends
	KindOffer   Kind = 6  // M: connections, a descriptor each
	KindReport  Kind = 7  // W: what is answered, how much it has
	KindRefuse  Kind = 8  // W: why an offer was not taken
	KindReturn  Kind = 9  // W: a connection that another is to have, with its descriptor
	KindDrain   Kind = 10 // M: take nothing new, finish, end
	KindGoodbye Kind = 11 // both: why the channel ends
)

var kindNames = [...]string{KindHello: "HELLO", KindWelcome: "WELCOME", KindStart: "START", KindReady: "READY", KindFailed: "FAILED",
	KindOffer: "OFFER", KindReport: "REPORT", KindRefuse: "REFUSE", KindReturn: "RETURN", KindDrain: "DRAIN", KindGoodbye: "GOODBYE"}

func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Known tells whether this program knows the kind.
func (k Kind) Known() bool { return k >= KindHello && k <= KindGoodbye }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Frame is one message of the channel. Little-endian:
//
//	0 u32 magic  4 u8 version  5 u8 kind  6 u8 flags  7 u8 descriptors  8 u32 body bytes  12 u32 generation  16 u32 CRC32C
//
// The checksum covers the header with 0 in its place, and the body.
type Frame struct {
	Version    uint8 // 0 before one is chosen: HELLO, WELCOME and GOODBYE
	Kind       Kind
	Critical   bool
	Files      int    // descriptors that come with it
	Generation uint32 // of the worker
	Body       []byte
}

// AppendFrame appends the bytes of a frame to b. The body has at most MaxFrame less a header.
func AppendFrame(b []byte, f Frame) []byte {
	at := len(b)
	var flags byte
	if f.Critical {
		flags |= flagCritical
	}
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = append(b, f.Version, byte(f.Kind), flags, byte(f.Files))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Body)))
	b = binary.LittleEndian.AppendUint32(b, f.Generation)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, f.Body...)
	binary.LittleEndian.PutUint32(b[at+16:], crc32.Checksum(b[at:], castagnoli))
	return b
}

// ParseFrame reads the one frame that b is. Body is a part of b. Errors wrap ErrFrame.
func ParseFrame(b []byte) (Frame, error) {
	var f Frame
	switch {
	case len(b) < headerSize:
		return f, fmt.Errorf("handover: %w: %d bytes, a header has %d", ErrFrame, len(b), headerSize)
	case len(b) > MaxFrame:
		return f, fmt.Errorf("handover: %w: %d bytes, at most %d", ErrFrame, len(b), MaxFrame)
	case binary.LittleEndian.Uint32(b) != magic:
		return f, fmt.Errorf("handover: %w: it begins with %x", ErrFrame, b[:4])
	case uint64(binary.LittleEndian.Uint32(b[8:])) != uint64(len(b)-headerSize):
		return f, fmt.Errorf("handover: %w: a body of %d bytes, the header says %d", ErrFrame, len(b)-headerSize, binary.LittleEndian.Uint32(b[8:]))
	}
	var head [headerSize]byte
	copy(head[:], b)
	clear(head[16:])
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, b[headerSize:])
	if want := binary.LittleEndian.Uint32(b[16:]); sum != want {
		return f, fmt.Errorf("handover: %w: checksum %08x, the header says %08x", ErrFrame, sum, want)
	}
	if b[6]&^flagCritical != 0 {
		return f, fmt.Errorf("handover: %w: flags %#x", ErrFrame, b[6])
	}
	return Frame{
		Version: b[4], Kind: Kind(b[5]), Critical: b[6]&flagCritical != 0, Files: int(b[7]),
		Generation: binary.LittleEndian.Uint32(b[12:]), Body: b[headerSize:],
	}, nil
}
