package worker

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/store/mem"
	"ndferry/wire"
)

// oneCell is the request for an array of one cell of |u1, or what change makes of it.
func oneCell(t testing.TB, shape array.Shape, change func(*wire.PutMessage)) []byte {
	t.Helper()
	meta := array.Meta{Shape: shape, DType: dtype(t, "|u1"), Cell: shape, DimNames: array.DefaultDimNames("a", len(shape))}
	text, err := meta.AppendWire(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := wire.PutMessage{Name: "limit", ID: wire.ID{7}, Array: text, NumPy: []byte(`"|u1"`)}
	if change != nil {
		change(&m)
	}
	return wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: 1}, wire.Encode(m))
}

// attributes is a request whose attributes are size bytes, nested depth deep.
func attributes(t testing.TB, size, depth int) []byte {
	open, shut := strings.Repeat(`{"a":`, depth-1)+`{"x":"`, `"}`+strings.Repeat("}", depth-1)
	text := open + strings.Repeat("y", max(0, size-len(open)-len(shut))) + shut
	return oneCell(t, array.Shape{1}, func(m *wire.PutMessage) { m.Attributes = &text })
}

// sized is a request whose array is n elements in cells of n, written by hand: array.Meta would refuse some.
func sized(t testing.TB, n string) []byte {
	return oneCell(t, array.Shape{7}, func(m *wire.PutMessage) { m.Array = bytes.ReplaceAll(m.Array, []byte("[7]"), []byte("["+n+"]")) })
}

// dims is a request for an array of n axes of length 1.
func dims(t testing.TB, n int) []byte {
	ones := "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]"
	return oneCell(t, array.Shape{7}, func(m *wire.PutMessage) {
		m.Array = bytes.ReplaceAll(m.Array, []byte("[7]"), []byte(ones))
		names := bytes.Index(m.Array, []byte(`,"dimension_names"`))
		if names < 0 {
			t.Fatalf("%s has no names", m.Array)
		}
		end := names + bytes.IndexByte(m.Array[names:], ']') + 1
		m.Array = append(m.Array[:names:names], m.Array[end:]...)
	})
}

// element is a request for an array of one element of size bytes, of a data type that has length_bytes.
func element(t testing.TB, name, numpy string, size int, fill string) []byte {
	return oneCell(t, array.Shape{1}, func(m *wire.PutMessage) {
		m.NumPy = fmt.Appendf(nil, `"%s%d"`, numpy, size)
		kind := fmt.Appendf(nil, `{"name":%q,"configuration":{"length_bytes":%d}}`, name, size)
		m.Array = bytes.ReplaceAll(m.Array, []byte(`"uint8"`), kind)
		m.Array = bytes.ReplaceAll(m.Array, []byte(`"fill_value":0`), []byte(`"fill_value":"`+fill+`"`))
	})
}

// zeros is a fill_value of n bytes.
func zeros(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

// padded is a LIST of exactly n bytes.
func padded(n int) []byte {
	text := `{"prefix":"` + `"}`
	return wire.AppendFrame(nil, wire.Header{Kind: wire.List, Flags: wire.Critical, Stream: 1},
		[]byte(strings.TrimSuffix(text, "}")+strings.Repeat(" ", n-len(text))+"}"))
}

// announced is a header alone that promises n bytes of payload.
func announced(k wire.Kind, n uint32) []byte {
	return wire.AppendHeader(nil, wire.Header{Kind: k, Flags: wire.Critical, Stream: 1, Length: n})
}

// TestFrameLimits sends what is just at a limit of WIRE §8, one over, and the largest there is.
func TestFrameLimits(t *testing.T) { eachDriver(t, frameLimits) }

func frameLimits(t *testing.T, driver string) {
	const most = uint32(math.MaxUint32)
	tests := []struct {
		name   string
		frame  []byte
		kind   wire.Kind // of the first answer. Fail: over it; Pong, which is asked for behind the frame: there was nothing to say of it
		closed bool
	}{
		{"a control payload of 64 KiB", padded(wire.MaxControl), wire.Entries, false},
		{"a control payload one over", announced(wire.List, wire.MaxControl+1), wire.Fail, true},
		{"the largest control payload", announced(wire.List, most), wire.Fail, true},
		{"the largest PUT", announced(wire.Put, most), wire.Fail, true},
		{"the largest unknown frame", wire.AppendHeader(nil, wire.Header{Kind: 99, Length: most}), wire.Fail, true},
		{"the largest CHUNK", announced(wire.Chunk, most), wire.Fail, true},
		{"a CHUNK one over", announced(wire.Chunk, wire.MaxChunk+1), wire.Fail, true},
		{"attributes of 1 MiB", attributes(t, wire.MaxAttributes, 1), wire.Pong, false},
		{"attributes one over", attributes(t, wire.MaxAttributes+1, 1), wire.Fail, false},
		{"attributes 16 deep", attributes(t, 0, 16), wire.Pong, false},
		{"attributes 17 deep", attributes(t, 0, 17), wire.Fail, false},
		{"attributes 30 deep", attributes(t, 0, 30), wire.Fail, false},
		{"64 axes", dims(t, 64), wire.Pong, false},
		{"65 axes", dims(t, 65), wire.Fail, false},
		{"4,096 axes", dims(t, 4096), wire.Fail, false},
		{"a cell of 1 byte", sized(t, "1"), wire.Pong, false},
		{"a cell of 16 MiB", sized(t, fmt.Sprint(wire.MaxCell)), wire.Pong, false},
		{"a cell one over", sized(t, fmt.Sprint(wire.MaxCell+1)), wire.Fail, false},
		{"an element of a cell", element(t, "null_terminated_bytes", "|S", wire.MaxCell, ""), wire.Pong, false},
		{"an element one over", element(t, "null_terminated_bytes", "|S", wire.MaxCell+1, ""), wire.Fail, false},
		{"the largest element", element(t, "null_terminated_bytes", "|S", math.MaxInt64, ""), wire.Fail, false},
		{"raw bytes of 1 MiB", element(t, "raw_bytes", "|V", array.MaxRawSize, zeros(array.MaxRawSize)), wire.Pong, false},
		{"raw bytes one over", element(t, "raw_bytes", "|V", array.MaxRawSize+1, zeros(array.MaxRawSize+1)), wire.Fail, false},
		{"the largest cell", sized(t, fmt.Sprint(math.MaxInt64)), wire.Fail, false},
	}
	_, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver})
	honest := dial(t, addr)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			frames := [][]byte{test.frame}
			if test.kind == wire.Pong {
				frames = append(frames, wire.AppendFrame(nil, wire.Header{Kind: wire.Ping}, nil))
			}
			p := attack(t, addr, frames)
			f := p.answer()
			if f.Kind != test.kind {
				t.Fatalf("answered with %v %.200s", f.Kind, f.Payload)
			}
			if test.closed {
				p.wantEnd()
			} else {
				p.ping()
			}
			if _, err := honest.List(context.Background(), ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestProgress sends a cell in pieces: who sends 64 KiB in less than the time for as much may take many times that, who sends a quarter
// of it may not.
func TestProgress(t *testing.T) { eachDriver(t, testProgress) }

func testProgress(t *testing.T, driver string) {
	eachLimit(t, 400*time.Millisecond, func(limit time.Duration) error { return progressWithin(t, driver, limit) })
}

func progressWithin(t *testing.T, driver string, limit time.Duration) error {
	const pieces = 8
	_, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver, Frame: limit})
	start := func(id byte) *peer {
		nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		p := newPeer(t, nc)
		p.send(oneCell(t, array.Shape{pieces * progress}, func(m *wire.PutMessage) { m.Name, m.ID = fmt.Sprint("p", id), wire.ID{id} }))
		p.ping() // it was not refused
		return p
	}
	h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: 1, Raw: pieces * progress}
	frame := wire.AppendFrame(nil, h, make([]byte, pieces*progress))
	steady := start(1)
	for rest := frame; len(rest) > 0; {
		n := min(progress, len(rest))
		if _, err := steady.nc.Write(rest[:n]); err != nil {
			return fmt.Errorf("a frame that comes at its pace: %w", err)
		}
		rest = rest[n:]
		time.Sleep(limit / 4) // the pace is what is tested
	}
	if _, err := steady.nc.Write(wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: 1}, nil)); err != nil {
		return fmt.Errorf("a frame that came at its pace: %w", err)
	}
	if f := steady.answer(); f.Kind != wire.Pong {
		return fmt.Errorf("a frame that came at its pace is answered with %v %s", f.Kind, f.Payload)
	}
	slow := start(2)
	for i := range pieces * 4 {
		if _, err := slow.nc.Write(frame[i*progress/4:][:progress/4]); err != nil {
			break
		}
		time.Sleep(limit / 2)
		if i == 3*pieces {
			return errors.New("a frame that comes at an eighth of the pace is still received")
		}
		slow.nc.SetReadDeadline(time.Now().Add(time.Millisecond))
		one := make([]byte, 1)
		if n, _ := slow.nc.Read(one); n > 0 {
			slow.d.Feed(one)
			break
		}
	}
	slow.nc.SetReadDeadline(time.Now().Add(patience))
	slow.wantError(wire.CodeDeadline)
	return nil
}
