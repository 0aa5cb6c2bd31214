package wire

// Features of this version, spec/WIRE.md §10.
const (
	FeatureAlias  = "alias"
	FeatureFill   = "fill"
	FeatureResend = "resend"
	FeatureJoin   = "join" // §5.1.1: a PUT over several connections
)

// Codecs of chunks, as HELLO names them, spec/WIRE.md §2 and §5.6.
const (
	CodecNone  = "none"
	CodecBlosc = "blosc"
)

// NewHello is the HELLO of this package's version: what it speaks, and the first credit it gives.
func NewHello(software string, credit uint64) HelloMessage {
	return HelloMessage{
		Versions: [2]int{MinVersion, Version},
		Software: cut(software, MaxSoftware),
		Features: []string{},
		Codecs:   []string{CodecNone, CodecBlosc},
		Digests:  []string{"crc32c", "sha256"},
		Credit:   credit,
	}
}

// Check tells whether a peer that says m can be spoken with, spec/WIRE.md §2.
func (m *HelloMessage) Check() error {
	low, high := m.Versions[0], m.Versions[1]
	switch {
	case low < 1 || high < low:
		return errorf("2", 0, CodeProtocol, "HELLO: versions %d to %d", low, high)
	case low > Version || high < MinVersion:
		return errorf("2", 0, CodeVersion, "the other side speaks protocol versions %d to %d, this side %d to %d", low, high, MinVersion, Version)
	case m.Credit < MinCredit || m.Credit > MaxCredit:
		return errorf("6", 0, CodeProtocol, "HELLO: credit of %d bytes, at least %d are needed", m.Credit, MinCredit)
	case len(m.Software) > MaxSoftware:
		return errorf("2", 0, CodeProtocol, "HELLO: software of %d bytes", len(m.Software))
	}
	return nil
}
