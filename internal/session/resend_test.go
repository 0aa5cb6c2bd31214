package session

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ndferry/wire"
	"ndferry/wire/codec"
)

// hurt is a frame whose payload was damaged on its way.
func hurt(frame []byte) []byte {
	frame = bytes.Clone(frame)
	frame[wire.HeaderSize] ^= 4
	return frame
}

// resends is about cells that come damaged and are asked for again.
func resends(t testing.TB) [][]byte {
	a, b, c := newTestArray(t, "r/a", 8, "sha256"), newTestArray(t, "r/b", 9, ""), newTestArray(t, "r/c", 10, "sha256")
	// Two cells, asked for again before FINISH and behind it.
	f := [][]byte{hello(), a.put(24), hurt(a.chunk(24, 0)), a.chunk(24, 1), hurt(a.chunk(24, 2)), a.chunk(24, 0), a.chunk(24, 3), a.finish(24), a.chunk(24, 2), a.finish(24)}
	// The source of others.
	b.msg.Sparse = true
	b.cells[1], b.cells[2], b.cells[3] = b.cells[0], b.cells[0], make([]byte, 20)
	alias := func(first, source uint64) []byte {
		h := wire.Header{Kind: wire.Alias, Flags: wire.Critical, Stream: 25, Index: first, Raw: 1}
		return wire.AppendFrame(nil, h, binary.LittleEndian.AppendUint64(nil, source))
	}
	fill := wire.AppendFrame(nil, wire.Header{Kind: wire.Fill, Flags: wire.Critical, Stream: 25, Index: 3, Raw: 1}, nil)
	f = append(f, b.put(25), hurt(b.chunk(25, 0)), alias(1, 0), alias(2, 1), fill, b.finish(25), b.chunk(25, 0), b.finish(25))
	// A container that does not decode, under a right checksum.
	compress(t, c, codec.LZ4)
	whole := c.chunk(26, 1)
	good := c.sent[1]
	c.sent[1] = append(bytes.Clone(good[:4]), make([]byte, len(good)-4)...)
	f = append(f, c.put(26), c.chunk(26, 0), c.chunk(26, 1), c.chunk(26, 2), c.chunk(26, 3), c.finish(26), whole, c.finish(26))
	return append(f, frame(wire.Get, 27, wire.GetMessage{Name: "r/b"}))
}

// TestResend checks what is asked for again.
func TestResend(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, open(t))
			for _, f := range resends(t) {
				if !r.deliver(f) {
					t.Fatalf("closed after %q", f[:wire.HeaderSize])
				}
				r.settle()
			}
			got := map[uint32]string{}
			for stream, list := range r.replies() {
				for _, text := range list {
					got[stream] += strings.Join(strings.Fields(text)[:2], " ") + ", "
				}
			}
			want := map[uint32]string{
				0: "HELLO 0, ", 24: "RESEND 0, RESEND 2, RECEIPT 0, ", 25: "RESEND 0, RECEIPT 0, ", 26: "RESEND 1, RECEIPT 0, ",
				27: "META 0, CHUNK 0, CHUNK 1, CHUNK 2, CHUNK 3, DONE 4, ",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if !r.ses.Idle() || len(r.ses.ops) > 0 || r.ses.outstanding != r.ses.owed {
				t.Errorf("left: %d puts, %d operations, %d bytes outstanding, %d owed", len(r.ses.puts), len(r.ses.ops), r.ses.outstanding, r.ses.owed)
			}
		})
	}
}

// TestResendTooOften damages one cell again and again: on its way, without and with resume, and by padding that is not zero. What else
// came of a PUT with resume is kept.
func TestResendTooOften(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, open(t))
			r.deliver(hello())
			often := func(a *testArray, stream uint32, damaged []byte) string {
				r.deliver(a.put(stream))
				r.deliver(a.chunk(stream, 1))
				for range wire.MaxDamages + 1 {
					r.deliver(damaged)
					r.settle()
				}
				got := r.replies()[stream]
				for i, text := range got[:len(got)-1] {
					if text[:7] != "RESEND " && text[:7] != "ACCEPT " {
						t.Errorf("stream %d, answer %d: %s", stream, i, text)
					}
				}
				if n := strings.Count(strings.Join(got, "\n"), "RESEND "); n != wire.MaxDamages {
					t.Errorf("stream %d: asked %d times", stream, n)
				}
				return got[len(got)-1]
			}
			a := newTestArray(t, "a", 1, "")
			if got := often(a, 1, hurt(a.chunk(1, 0))); !strings.Contains(got, `"code":"integrity"`) || strings.Contains(got, `"retryable":true`) {
				t.Error(got)
			}
			b := newTestArray(t, "b", 2, "")
			b.cells[3][19] = 1
			if got := often(b, 2, b.chunk(2, 3)); !strings.Contains(got, `"code":"invalid"`) {
				t.Error(got)
			}
			c := newTestArray(t, "c", 3, "")
			c.msg.Resume = true
			if got := often(c, 3, hurt(c.chunk(3, 0))); !strings.Contains(got, `"code":"integrity"`) || !strings.Contains(got, `"retryable":true`) {
				t.Error(got)
			}
			r.deliver(c.put(4))
			r.settle()
			if got := r.replies()[4]; len(got) != 1 || !strings.Contains(got[0], `"durable":[[1,1]]`) {
				t.Errorf("taken up again: %q", got)
			}
		})
	}
}
