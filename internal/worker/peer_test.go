package worker

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/wire"
)

// peer is a client that says whatever a test wants, frame by frame.
type peer struct {
	t     testing.TB
	nc    net.Conn
	d     wire.Decoder
	first *wire.Frame // read already
	buf   []byte
}

// newPeer says HELLO and takes the server's.
func newPeer(t testing.TB, nc net.Conn) *peer {
	p := &peer{t: t, nc: nc}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	p.send(hello())
	if f := p.next(); f.Kind != wire.Hello {
		t.Fatalf("the server began with %v %s", f.Kind, f.Payload)
	}
	return p
}

func hello() []byte {
	return wire.AppendFrame(nil, wire.Header{Kind: wire.Hello, Flags: wire.Critical}, wire.Encode(wire.NewHello("test", wire.MaxCredit)))
}

func (p *peer) send(frames ...[]byte) {
	for _, f := range frames {
		if _, err := p.nc.Write(f); err != nil {
			p.t.Fatalf("send: %v", err)
		}
	}
}

// next returns the next frame of the server; a frame without kind when it closed.
func (p *peer) next() wire.Frame {
	if f := p.first; f != nil {
		p.first = nil
		return *f
	}
	if p.buf == nil {
		p.buf = make([]byte, 256<<10)
	}
	for {
		f, ok, err := p.d.Next()
		if err != nil {
			p.t.Fatalf("the server sent no frame: %v", err)
		}
		if ok {
			return f
		}
		n, err := p.nc.Read(p.buf)
		if err != nil {
			if errors.Is(err, io.EOF) && p.d.Buffered() == 0 {
				return wire.Frame{}
			}
			p.t.Fatalf("receive: %v with %d bytes of a frame", err, p.d.Buffered())
		}
		p.d.Feed(p.buf[:n])
	}
}

func (p *peer) ping() {
	p.t.Helper()
	p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: 1}, nil))
	if f := p.answer(); f.Kind != wire.Pong {
		p.t.Fatalf("PING was answered with %v %s", f.Kind, f.Payload)
	}
}

// answer returns the next frame that is no CREDIT, which may come at any time.
func (p *peer) answer() wire.Frame {
	f := p.next()
	for f.Kind == wire.Credit {
		f = p.next()
	}
	return f
}

func (p *peer) wantError(code wire.Code) {
	p.t.Helper()
	f := p.answer()
	var failure wire.Failure
	if f.Kind != wire.Fail || wire.Decode(f.Payload, &failure) != nil || failure.Code != code {
		p.t.Errorf("got %v %s, want ERROR %s", f.Kind, f.Payload, code)
	}
}

func (p *peer) wantEnd() {
	p.t.Helper()
	if f := p.next(); f.Kind != 0 {
		p.t.Errorf("got %v %s, want the end", f.Kind, f.Payload)
	}
}

// upload makes the frames that store (3, 8) bytes in two cells of (2, 8), half of the last being padding.
type upload struct {
	msg   wire.PutMessage
	cells [2][16]byte
}

func newUpload(t testing.TB, name string, id byte) *upload {
	meta := array.Meta{Shape: array.Shape{3, 8}, DType: dtype(t, "|u1"), Cell: array.Shape{2, 8}, DimNames: array.DefaultDimNames("a", 2)}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	u := &upload{msg: wire.PutMessage{Name: name, ID: wire.ID{id}, Array: text, NumPy: []byte(`"|u1"`)}}
	for i := range 24 {
		u.cells[i/16][i%16] = byte(i) + 1
	}
	return u
}

func (u *upload) put(stream uint32) []byte {
	return wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: stream}, wire.Encode(u.msg))
}

func (u *upload) header(stream uint32, i int) wire.Header {
	return wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: stream, Index: uint64(i), Raw: 16}
}

func (u *upload) chunk(stream uint32, i int) []byte {
	return wire.AppendFrame(nil, u.header(stream, i), u.cells[i%2][:])
}

func (u *upload) finish(stream uint32) []byte {
	return wire.AppendFrame(nil, wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: stream, Index: 2}, nil)
}

func (p *peer) wantGoAway() {
	p.t.Helper()
	if f := p.answer(); f.Kind != wire.GoAway || len(f.Payload) > 0 {
		p.t.Errorf("got %v %s, want GOAWAY", f.Kind, f.Payload)
	}
}

// sockets is a connected pair of Unix sockets.
func sockets(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "pair"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("unix", ln.Addr().String()); err == nil {
		far, err = ln.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return near, far
}
