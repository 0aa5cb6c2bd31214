package wire

// Frame is a header with its payload.
type Frame struct {
	Header
	Payload []byte // aliases the decoder's buffer until the next Feed
	Status  Status
}

// Decoder splits a byte stream into frames, however it is cut. It is for those who hold the bytes anyway: tests, recorded
// conversations, small messages. Bulk payload is read to its destination instead, see the package comment. The zero value is ready;
// a Decoder belongs to one goroutine. After an error it stays in error: nothing can be trusted to be a boundary.
type Decoder struct {
	buf []byte
	off int
	err error
}

// Feed adds bytes. It copies p.
func (d *Decoder) Feed(p []byte) {
	d.buf = append(d.buf[:copy(d.buf, d.buf[d.off:])], p...)
	d.off = 0
}

// Buffered is the number of bytes that no frame has used yet.
func (d *Decoder) Buffered() int { return len(d.buf) - d.off }

// Next returns the next whole frame; ok is false when more bytes are needed. Frames of unknown kinds are returned too.
func (d *Decoder) Next() (f Frame, ok bool, err error) {
	if d.err != nil {
		return Frame{}, false, d.err
	}
	b := d.buf[d.off:]
	if len(b) < HeaderSize {
		return Frame{}, false, nil
	}
	if f.Header, d.err = ParseHeader(b); d.err != nil {
		return Frame{}, false, d.err
	}
	if len(b) < f.Size() {
		return Frame{}, false, nil
	}
	d.off += f.Size()
	if f.Length == 0 {
		return f, true, nil
	}
	end := HeaderSize + int(f.Length)
	f.Payload = b[HeaderSize:end:end]
	var crc uint32
	if crc, f.Status, d.err = ParseTrailer(b[end:]); d.err != nil {
		return Frame{}, false, d.err
	}
	if f.Status == Whole {
		d.err = CheckPayload(f.Header, Checksum(f.Payload), crc)
	}
	return f, d.err == nil, d.err
}

// CheckPayload compares the CRC32C of a payload as received with that of the trailer.
func CheckPayload(h Header, got, want uint32) error {
	if got == want {
		return nil
	}
	return errorf("1", 0, CodeIntegrity, "%v, stream %d, index %d: the payload's CRC32C is %08x, the trailer says %08x", h.Kind, h.Stream, h.Index, got, want)
}
