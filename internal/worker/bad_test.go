package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/mem"
	"ndferry/wire"
)

// change makes a frame of u wrong in one way.
func change(h wire.Header, payload []byte, f func(*wire.Header)) []byte {
	h.Length = uint32(len(payload))
	f(&h)
	b := wire.AppendHeader(nil, h)
	if len(payload) == 0 {
		return b
	}
	return wire.AppendTrailer(append(b, payload...), wire.Checksum(payload), wire.Whole)
}

// TestBadInput sends what no client of ours would and checks the answer: a code, and whether the connection goes on. Nothing may be
// stored, and another client must be served as before.
func TestBadInput(t *testing.T) { eachDriver(t, testBadInput) }

func testBadInput(t *testing.T, driver string) {
	a := newUpload(t, "bad", 9)
	other := func(f func(m *wire.PutMessage)) []byte {
		m := a.msg
		f(&m)
		return wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: 1}, wire.Encode(m))
	}
	meta := func(from, to string) []byte {
		return other(func(m *wire.PutMessage) { m.Array = bytes.Replace(m.Array, []byte(from), []byte(to), 1) })
	}
	badTrailer := a.chunk(1, 0)
	badTrailer[len(badTrailer)-8] ^= 1
	badStatus := a.chunk(1, 0)
	badStatus[len(badStatus)-1] ^= 1
	badPadding := a.cells[1]
	badPadding[15] = 1
	padded := wire.AppendFrame(nil, a.header(1, 1), badPadding[:])
	sha := other(func(m *wire.PutMessage) { m.Digest = "sha256" })
	wrongRoot := wire.AppendFrame(nil, wire.Header{Kind: wire.Finish, Stream: 1, Index: 2}, wire.Encode(wire.FinishMessage{}))
	request := func(k wire.Kind, text string) []byte {
		return wire.AppendFrame(nil, wire.Header{Kind: k, Flags: wire.Critical, Stream: 1}, []byte(text))
	}
	tests := []struct {
		name   string
		frames [][]byte
		code   wire.Code
		closed bool
	}{
		{"unknown critical kind", [][]byte{wire.AppendHeader(nil, wire.Header{Kind: 99, Flags: wire.Critical})}, wire.CodeUnsupported, true},
		{"a second HELLO", [][]byte{hello()}, wire.CodeProtocol, true},
		{"a reply from a client", [][]byte{wire.AppendFrame(nil, wire.Header{Kind: wire.Receipt, Stream: 1}, []byte(`{}`))}, wire.CodeProtocol, true},
		{"CHUNK on no stream", [][]byte{a.chunk(1, 0)}, wire.CodeProtocol, true},
		{"FINISH on no stream", [][]byte{a.finish(5)}, wire.CodeProtocol, true},
		{"CANCEL of no stream", [][]byte{wire.AppendHeader(nil, wire.Header{Kind: wire.Cancel, Stream: 3})}, wire.CodeProtocol, true},
		{"a stream twice", [][]byte{a.put(1), a.put(1)}, wire.CodeProtocol, true},
		{"a bad header CRC", [][]byte{append(bytes.Repeat([]byte("NDF1"), 7), 1, 2, 3, 4)}, wire.CodeProtocol, true},
		{"no JSON", [][]byte{request(wire.Put, "name")}, wire.CodeProtocol, true},
		{"JSON of another kind", [][]byte{request(wire.Get, `[]`)}, wire.CodeProtocol, true},
		{"a member twice", [][]byte{request(wire.Get, `{"name":"a","name":"b"}`)}, wire.CodeProtocol, true},
		{"must understand", [][]byte{request(wire.Get, `{"name":"a","must_understand":["x"]}`)}, wire.CodeUnsupported, false},
		{"GET of a bad name", [][]byte{request(wire.Get, `{"name":"../a"}`)}, wire.CodeInvalid, false},
		{"name ..", [][]byte{other(func(m *wire.PutMessage) { m.Name = "a/../b" })}, wire.CodeInvalid, false},
		{"absolute name", [][]byte{other(func(m *wire.PutMessage) { m.Name = "/etc/passwd" })}, wire.CodeInvalid, false},
		{"name with NUL", [][]byte{other(func(m *wire.PutMessage) { m.Name = "a\x00b" })}, wire.CodeInvalid, false},
		{"long name", [][]byte{other(func(m *wire.PutMessage) { m.Name = strings.Repeat("x", 1025) })}, wire.CodeInvalid, false},
		{"reserved name", [][]byte{other(func(m *wire.PutMessage) { m.Name = "a/zarr.json" })}, wire.CodeInvalid, false},
		{"no id", [][]byte{other(func(m *wire.PutMessage) { m.ID = wire.ID{} })}, wire.CodeInvalid, false},
		{"no dtype", [][]byte{meta(`"uint8"`, `"object"`)}, wire.CodeInvalid, false},
		{"other dtype", [][]byte{other(func(m *wire.PutMessage) { m.NumPy = []byte(`"<f8"`) })}, wire.CodeInvalid, false},
		{"shape overflows", [][]byte{meta(`"shape":[3,8]`, `"shape":[4611686018427387904,8]`)}, wire.CodeLimit, false},
		{"cell too large", [][]byte{meta(`"chunk_shape":[2,8]`, `"chunk_shape":[2,16777216]`)}, wire.CodeLimit, false},
		{"negative shape", [][]byte{meta(`"shape":[3,8]`, `"shape":[-3,8]`)}, wire.CodeInvalid, false},
		{"a codec nobody has", [][]byte{meta(`[{"name":"bytes"}]`, `[{"name":"bytes"},{"name":"magic"}]`)}, wire.CodeInvalid, false},
		{"a digest nobody has", [][]byte{other(func(m *wire.PutMessage) { m.Digest = "md5" })}, wire.CodeInvalid, false},
		{"cell out of range", [][]byte{a.put(1), a.chunk(1, 2)}, wire.CodeInvalid, false},
		{"cell far out of range", [][]byte{a.put(1), change(a.header(1, 0), a.cells[0][:], func(h *wire.Header) { h.Index = 1<<32 - 2 })}, wire.CodeInvalid, false},
		{"cell twice", [][]byte{a.put(1), a.chunk(1, 0), a.chunk(1, 0)}, wire.CodeInvalid, false},
		{"wrong size of a cell", [][]byte{a.put(1), change(a.header(1, 0), a.cells[0][:15], func(h *wire.Header) { h.Raw = 15 })}, wire.CodeInvalid, false},
		{"payload too short", [][]byte{a.put(1), change(a.header(1, 0), a.cells[0][:15], func(*wire.Header) {})}, wire.CodeInvalid, false},
		{"payload too long", [][]byte{a.put(1), change(a.header(1, 0), make([]byte, 17), func(*wire.Header) {})}, wire.CodeInvalid, false},
		{"wrong CRC of a payload", [][]byte{a.put(1), badTrailer}, wire.CodeIntegrity, false},
		{"wrong status", [][]byte{a.put(1), badStatus}, wire.CodeProtocol, true},
		{"padding that is not zero", [][]byte{a.put(1), padded}, wire.CodeInvalid, false},
		{"FINISH too early", [][]byte{a.put(1), a.chunk(1, 0), a.finish(1)}, wire.CodeInvalid, false},
		{"FINISH of another array", [][]byte{a.put(1), a.chunk(1, 0), a.chunk(1, 1), change(wire.Header{Kind: wire.Finish, Stream: 1, Index: 3}, nil, func(*wire.Header) {})}, wire.CodeInvalid, false},
		{"no root", [][]byte{sha, a.chunk(1, 0), a.chunk(1, 1), a.finish(1)}, wire.CodeInvalid, false},
		{"wrong root", [][]byte{sha, a.chunk(1, 0), a.chunk(1, 1), wrongRoot}, wire.CodeIntegrity, false},
		{"endless credit", [][]byte{wire.AppendHeader(nil, wire.Header{Kind: wire.Credit, Index: wire.MaxCredit})}, wire.CodeProtocol, true},
		{"ranges over the end", [][]byte{request(wire.Get, `{"name":"good","cells":[[1,2]]}`)}, wire.CodeInvalid, false},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, open(t), Config{Driver: driver})
			honest := dial(t, addr)
			putGood(t, honest)
			for _, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					p := attack(t, addr, test.frames)
					p.wantError(test.code)
					if test.closed {
						p.wantEnd()
					} else {
						p.ping()
					}
					list, err := honest.List(context.Background(), "")
					if err != nil || len(list) != 1 || list[0].Name != "good" {
						t.Errorf("afterwards the store has %v, %v", list, err)
					}
				})
			}
		})
	}
}

// attack connects and sends frames, again when the id of the attack before is still being dropped.
func attack(t *testing.T, addr string, frames [][]byte) *peer {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		p := newPeer(t, nc)
		p.send(frames...)
		f := p.answer()
		if !bytes.Contains(f.Payload, []byte(`"busy"`)) || time.Now().After(deadline) {
			p.first = &f
			return p
		}
		nc.Close()
	}
}

// putGood stores the one array that is to be there after all attacks.
func putGood(t *testing.T, c *client.Client) {
	t.Helper()
	good := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{32}, Data: make([]byte, 32)}
	if _, err := c.Put(context.Background(), "good", good, client.PutOptions{Cell: array.Shape{16}}); err != nil {
		t.Fatal(err)
	}
}

// TestNotOurProtocol connects with what is no HELLO: the server says so where it can, closes, and goes on.
func TestNotOurProtocol(t *testing.T) { eachDriver(t, testNotOurProtocol) }

func testNotOurProtocol(t *testing.T, driver string) {
	newer := wire.NewHello("from the future", wire.MinCredit)
	newer.Versions = [2]int{7, 9}
	unknown := wire.AppendFrame(nil, wire.Header{Kind: wire.Hello, Flags: wire.Critical}, []byte(`{"versions":[1,1],"software":"x","features":[],"codecs":["none"],"digests":["crc32c"],"credit":16777216,"must_understand":["teleport"],"teleport":1}`))
	tests := []struct {
		name, text string
		code       wire.Code
	}{
		{"HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n", wire.CodeProtocol},
		{"TLS", "\x16\x03\x01\x00\xee\x01\x00\x00\xea\x03\x03" + strings.Repeat("r", 40), wire.CodeProtocol},
		{"random", fmt.Sprintf("%x", sha256.Sum256([]byte("random"))), wire.CodeProtocol},
		{"zeros", strings.Repeat("\x00", 64), wire.CodeProtocol},
		{"a request before HELLO", string(newUpload(t, "a", 1).put(1)), wire.CodeProtocol},
		{"newer versions only", string(wire.AppendFrame(nil, wire.Header{Kind: wire.Hello, Flags: wire.Critical}, wire.Encode(newer))), wire.CodeVersion},
		{"something that must be understood", string(unknown), wire.CodeUnsupported},
		{"nothing", "", wire.CodeDeadline},
		{"half a header", "NDF1\x01\x01", wire.CodeDeadline},
	}
	cfg := Config{Driver: driver}
	_, addr := serve(t, mem.New(mem.Config{}), cfg)
	cfg.Frame, cfg.Session.Handshake = 50*time.Millisecond, 100*time.Millisecond
	_, hasty := serve(t, mem.New(mem.Config{}), cfg)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			addr, late := addr, test.code == wire.CodeDeadline
			if late { // others that are held up have not been silent
				addr = hasty
			}
			nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(patience))
			if _, err := nc.Write([]byte(test.text)); err != nil && !late {
				t.Fatal(err)
			}
			p := &peer{t: t, nc: nc}
			p.wantError(test.code)
			p.wantEnd()
		})
	}
	if _, err := dial(t, addr).Ping(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestTrickle ends a frame that comes a byte at a time.
func TestTrickle(t *testing.T) { eachDriver(t, testTrickle) }

func testTrickle(t *testing.T, driver string) {
	_, addr := serve(t, mem.New(mem.Config{}), Config{Driver: driver, Frame: 30 * time.Millisecond})
	nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := newPeer(t, nc)
	a := newUpload(t, "a", 1)
	p.send(a.put(1), a.chunk(1, 0)[:wire.HeaderSize+3])
	p.wantError(wire.CodeDeadline)
	p.wantEnd()
}

// recorder keeps what a client writes.
type recorder struct {
	net.Conn
	mu  sync.Mutex
	buf []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.buf = append(r.buf, p...)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// TestTruncation replays a recorded conversation up to every byte and hangs up: nothing half-written may be visible, nothing may leak.
func TestTruncation(t *testing.T) { eachDriver(t, testTruncation) }

func testTruncation(t *testing.T, driver string) {
	st := mem.New(mem.Config{})
	_, addr := serve(t, st, Config{Driver: driver})
	path := strings.TrimPrefix(addr, "unix://")
	recorded := record(t, path)
	honest := dial(t, addr)
	for n := range len(recorded) {
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(recorded[:n]); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		nc.Close()
		if n%16 != 0 {
			continue
		}
		list, err := honest.List(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			b, err := honest.Get(context.Background(), e.Name, client.GetOptions{})
			if err != nil || len(b.Data) != 300 || bytes.Count(b.Data, []byte{7}) != 300 {
				t.Fatalf("after %d bytes of the conversation: %q is %v, %v", n, e.Name, b, err)
			}
		}
	}
	// Every connection is over; what they held is given back.
	deadline := time.Now().Add(patience)
	most := 20
	if driver == LoopDriver {
		most += bulkWorkers + callWorkers
	}
	for runtime.NumGoroutine() > most && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > most {
		t.Errorf("%d goroutines are left", n)
	}
	t.Logf("%d truncations", len(recorded))
}

// record has a client put, get, list, stat, verify and delete, and returns what it wrote.
func record(t *testing.T, path string) []byte {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Conn: nc}
	ctx := context.Background()
	c, err := client.New(ctx, r, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{300}, Data: bytes.Repeat([]byte{7}, 300)}
	for i, digest := range []string{client.CRC32C, client.SHA256} {
		name := fmt.Sprint("dir/", i)
		if _, err := c.Put(ctx, name, a, client.PutOptions{Digest: digest, Cell: array.Shape{128}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(ctx, name, client.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Verify(ctx, name, nil); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	return r.buf
}
