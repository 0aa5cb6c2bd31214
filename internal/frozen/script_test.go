package frozen

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"ndferry/wire"
)

// script is a conversation that is written frame by frame.
type script struct {
	t     *testing.T
	s     *server
	tr    *transcript
	conns map[int]net.Conn
}

func (s *script) conn(n int) net.Conn {
	if s.conns[n] == nil {
		s.conns[n] = s.s.dial()
	}
	return s.conns[n]
}

// say sends bytes of a client.
func (s *script) say(conn int, frames ...[]byte) {
	for _, b := range frames {
		s.tr.lines = append(s.tr.lines, line{from: 'C', conn: conn, data: b})
		if _, err := s.conn(conn).Write(b); err != nil {
			s.t.Fatal(err)
		}
	}
}

// hear takes frames of the server up to one of a kind.
func (s *script) hear(conn int, kind wire.Kind) {
	s.t.Helper()
	for {
		b, err := readFrame(s.conn(conn))
		if err != nil {
			s.t.Fatalf("%v where %v was expected", err, kind)
		}
		h, err := wire.ParseHeader(b)
		if err != nil {
			s.t.Fatal(err)
		}
		s.tr.lines = append(s.tr.lines, line{from: 'S', conn: conn, data: b})
		if h.Kind == kind {
			return
		}
		if h.Kind == wire.Fail {
			s.t.Fatalf("%s where %v was expected", b[wire.HeaderSize:], kind)
		}
	}
}

// closed waits until the server has closed.
func (s *script) closed(conn int) {
	s.t.Helper()
	if b, err := readFrame(s.conn(conn)); !errors.Is(err, io.EOF) {
		s.t.Fatalf("%x, error %v where the server closes", b, err)
	}
	s.tr.lines = append(s.tr.lines, line{from: 'X', conn: conn})
}

func (s *script) drain() {
	s.tr.lines = append(s.tr.lines, line{from: 'E', data: []byte("drain")})
	s.s.drain()
}

// pause lets a checkpoint come due, whose ACK is recorded.
func (s *script) pause() {
	s.tr.lines = append(s.tr.lines, line{from: 'W', conn: 1})
	time.Sleep(300 * time.Millisecond)
}

// greet opens a conversation with features.
func (s *script) greet(conn int, features ...string) {
	m := wire.NewHello("script", 1<<40)
	m.Features = features
	s.say(conn, frame(wire.Hello, 0, 0, 0, wire.Encode(m)))
	s.hear(conn, wire.Hello)
}

// frame is a frame; requests and what carries cells are critical, as clients send them.
func frame(kind wire.Kind, stream uint32, index uint64, raw uint32, payload []byte) []byte {
	h := wire.Header{Kind: kind, Stream: stream, Index: index, Raw: raw, Length: uint32(len(payload))}
	if kind == wire.Hello || kind >= wire.Put && kind <= wire.Cancel || kind >= wire.Chunk && kind <= wire.Fill {
		h.Flags = wire.Critical
	}
	return wire.AppendFrame(nil, h, payload)
}

func text(s string) []byte { return []byte(s) }
