//go:build linux

package fdpass

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestFrame(t *testing.T) {
	audit(t)
	a, b := pair(t, Stream)
	files, same := memfds(t, 1)
	meta := map[string]any{"fd": 7, "client_address": []any{"127.0.0.1", 40000}, "timestamp": 1.5, "any": "größer"}
	kept := fmt.Sprint(meta)
	for range 3 {
		if err := a.SendFrame(t.Context(), meta, files[0]); err != nil {
			t.Fatal(err)
		}
		got, set, err := b.RecvFrame(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]any
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"fd": 7.0, "client_address": []any{"127.0.0.1", 40000.0}, "timestamp": 1.5, "any": "größer"}
		if !reflect.DeepEqual(back, want) || !same(set.Peek(0), 0) || set.Len() != 1 {
			t.Errorf("got %s", got)
		}
		set.Close()
	}
	if fmt.Sprint(meta) != kept {
		t.Error("the caller's metadata was changed")
	}
}

func TestFrame_doesNotTellTheSendersNumber(t *testing.T) {
	audit(t)
	a, b := pair(t, Stream)
	files, _ := memfds(t, 1)
	if err := a.SendFrame(t.Context(), struct{}{}, files[0]); err != nil {
		t.Fatal(err)
	}
	got, set, err := b.RecvFrame(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set.Close()
	if string(got) != "{}" {
		t.Errorf("got %s, want the caller's object and no more", got)
	}
}

func TestSendFrame_refuses(t *testing.T) {
	audit(t)
	a, b := pair(t, Stream)
	files, same := memfds(t, 1)
	for _, meta := range []any{nil, 1, "text", []int{1}, strings.Repeat("x", 10), json.RawMessage(`{`),
		map[string]string{"k": strings.Repeat("x", MaxFrameMeta)}, func() {}} {
		if err := a.SendFrame(t.Context(), meta, files[0]); err == nil {
			t.Errorf("%T was sent", meta)
		}
	}
	if err := a.SendFrame(t.Context(), struct{}{}, files[0]); err != nil {
		t.Fatalf("a refused object left the stream in mid-frame: %v", err)
	}
	_, set, err := b.RecvFrame(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set.Close()
	c, _ := pair(t, Seqpacket)
	if err := c.SendFrame(t.Context(), struct{}{}, files[0]); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("on SOCK_SEQPACKET: %v", err)
	}
	if !same(int(files[0].Fd()), 0) {
		t.Error("the sender lost its descriptor")
	}
}

// frameBytes is a frame without its last byte.
func frameBytes(object string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(object))), object...)
}

func TestRecvFrame_hostile(t *testing.T) {
	object := frameBytes(`{"a":1}`)
	for _, tc := range []struct {
		name string
		send func(t *testing.T, a *Conn)
		want error
	}{
		{"length of 4 GiB", func(t *testing.T, a *Conn) { rawSend(t, a, []byte{255, 255, 255, 255}) }, ErrFrame},
		{"length over the limit", func(t *testing.T, a *Conn) { rawSend(t, a, []byte{0, 1, 0, 1}) }, ErrFrame},
		{"length 0", func(t *testing.T, a *Conn) { rawSend(t, a, []byte{0, 0, 0, 0}) }, ErrFrame},
		{"not an object", func(t *testing.T, a *Conn) { rawSend(t, a, frameBytes(`[1]`)) }, ErrFrame},
		{"not JSON", func(t *testing.T, a *Conn) { rawSend(t, a, frameBytes(`{"a"}`)) }, ErrFrame},
		{"not UTF-8", func(t *testing.T, a *Conn) { rawSend(t, a, frameBytes("{\"a\":\"\xff\"}")) }, ErrFrame},
		{"descriptor with the length", func(t *testing.T, a *Conn) { rawSend(t, a, object[:4], 0) }, ErrFrame},
		{"descriptor with the object", func(t *testing.T, a *Conn) {
			rawSend(t, a, object[:6])
			rawSend(t, a, object[6:], 0)
		}, ErrFrame},
		{"no descriptor", func(t *testing.T, a *Conn) {
			rawSend(t, a, object)
			rawSend(t, a, []byte(" "))
		}, ErrNone},
		{"two descriptors", func(t *testing.T, a *Conn) {
			rawSend(t, a, object)
			rawSend(t, a, []byte(" "), 0, 1)
		}, ErrCount},
		{"253 descriptors", func(t *testing.T, a *Conn) {
			rawSend(t, a, object)
			rawSend(t, a, []byte(" "), make([]int, 253)...)
		}, ErrCount},
		{"another byte", func(t *testing.T, a *Conn) {
			rawSend(t, a, object)
			rawSend(t, a, []byte("x"), 0)
		}, ErrFrame},
		{"gone in the length", func(t *testing.T, a *Conn) { rawSend(t, a, object[:3]); a.Close() }, ErrPeerGone},
		{"gone in the object", func(t *testing.T, a *Conn) { rawSend(t, a, object[:8]); a.Close() }, ErrPeerGone},
		{"gone before the descriptor", func(t *testing.T, a *Conn) { rawSend(t, a, object); a.Close() }, ErrPeerGone},
		{"silent", func(t *testing.T, a *Conn) {}, ErrTimeout},
		{"silent in the object", func(t *testing.T, a *Conn) { rawSend(t, a, object[:8]) }, ErrTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			audit(t)
			a, b := pair(t, Stream)
			tc.send(t, a)
			ctx := t.Context()
			if tc.want == ErrTimeout {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
			}
			start := time.Now()
			if _, set, err := b.RecvFrame(ctx); !errors.Is(err, tc.want) || set != nil {
				t.Fatalf("got %v, %v; want %v", set, err, tc.want)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Fatalf("held for %v: only the test's own deadline ended it", took)
			}
		})
	}
}

// The time runs from the start to the last byte, however steadily a peer
// trickles: each byte here comes long before the last one's deadline would end.
func TestRecvFrame_trickle(t *testing.T) {
	audit(t)
	a, b := pair(t, Stream)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, octet := range frameBytes(`{"k":"` + strings.Repeat("x", 5000) + `"}`) {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			if a.Send([]byte{octet}) != nil {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, _, err := b.RecvFrame(ctx); !errors.Is(err, ErrTimeout) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("a trickle held the receiver for %v", took)
	}
	close(stop)
	<-done
}

// A frame in pieces of one byte is the same frame.
func TestRecvFrame_byteByByte(t *testing.T) {
	audit(t)
	a, b := pair(t, Stream)
	files, same := memfds(t, 1)
	if err := a.SendFrame(t.Context(), json.RawMessage(`{"a":1}`), files[0]); err != nil {
		t.Fatal(err)
	}
	meta, set, err := readFrame(func(p []byte) (int, *Files, error) { return b.Recv(p[:1]) })
	if err != nil || string(meta) != `{"a":1}` || !same(set.Peek(0), 0) {
		t.Fatalf("%s, %v", meta, err)
	}
	set.Close()
}

// Silent and broken senders delay nobody, and every good frame arrives.
func TestFrameServer(t *testing.T) {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	l, err := ListenPath(path, PathConfig{Type: Stream})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	metas, failed, served := make(chan string, 100), make(chan error, 100), make(chan error)
	s := FrameServer{OnError: func(err error) { failed <- err }}
	go func() {
		served <- s.Serve(ctx, &l.Listener, func(meta json.RawMessage, set *Files) {
			set.Close()
			metas <- string(meta)
		})
	}()
	dial := func() *Conn {
		c, err := DialPath(t.Context(), path, DialConfig{Type: Stream})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range 5 {
		dial() // silent
	}
	if err := dial().Send([]byte{255, 255, 255, 255}); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, ErrFrame) {
		t.Fatal(err)
	}
	files, _ := memfds(t, 1)
	for range 10 {
		if err := dial().SendFrame(t.Context(), struct{}{}, files[0]); err != nil {
			t.Fatal(err)
		}
		if got := <-metas; got != "{}" {
			t.Fatal(got)
		}
	}
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for range 5 {
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Fatalf("a silent peer's end: %v", err)
		}
	}
}

// The time of a server runs from accept to the last byte: a peer that trickles is
// cut off, while another is served at once. It is so under one of three times, of
// which the last is longer than any pause of the machine.
func TestFrameServer_timeout(t *testing.T) {
	for timeout := time.Second; ; timeout *= 5 {
		err := frameServerTimeout(t, timeout)
		if err == nil {
			return
		}
		if t.Logf("with %v: %v", timeout, err); timeout > 20*time.Second {
			t.Fatal(err)
		}
	}
}

func frameServerTimeout(t *testing.T, timeout time.Duration) error {
	audit(t)
	path := filepath.Join(privateDir(t), "s")
	l, err := ListenPath(path, PathConfig{Type: Stream})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	metas, failed, served := make(chan string, 1), make(chan error, 2), make(chan error)
	s := FrameServer{Timeout: timeout, OnError: func(err error) { failed <- err }}
	go func() {
		served <- s.Serve(ctx, &l.Listener, func(meta json.RawMessage, set *Files) {
			set.Close()
			metas <- string(meta)
		})
	}()
	defer func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	trickle, err := DialPath(t.Context(), path, DialConfig{Type: Stream})
	if err != nil {
		t.Fatal(err)
	}
	defer trickle.Close()
	done := make(chan struct{})
	defer func() { trickle.Close(); <-done }()
	go func() {
		defer close(done)
		for _, octet := range frameBytes(`{"k":"` + strings.Repeat("x", 800) + `"}`) {
			if trickle.Send([]byte{octet}) != nil {
				return // it was cut off
			}
			time.Sleep(timeout / 200)
		}
	}()
	honest, err := DialPath(t.Context(), path, DialConfig{Type: Stream})
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	files, _ := memfds(t, 1)
	if err := honest.SendFrame(t.Context(), struct{}{}, files[0]); err != nil {
		return fmt.Errorf("the honest peer: %w", err)
	}
	select {
	case got := <-metas:
		if got != "{}" {
			t.Fatal(got)
		}
	case err := <-failed:
		return fmt.Errorf("a peer's time ended before the honest one was served: %w", err)
	}
	select {
	case err := <-failed:
		if !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
	case <-done:
		t.Fatal("a peer that trickles was never cut off")
	}
	return nil
}

// FuzzReadFrame feeds the parser any bytes in any pieces with descriptors
// anywhere. It must end, read nothing beyond the frame, give exactly one
// descriptor or none, and close the rest.
func FuzzReadFrame(f *testing.F) {
	good := append(frameBytes(`{"client_address":["127.0.0.1",1],"timestamp":1.5}`), frameMark)
	f.Add(good, []byte{4, 255, 1}, len(good)-1)
	f.Add(good, []byte{1}, 0)
	f.Add(good, []byte{}, -1)
	f.Add([]byte{255, 255, 255, 255}, []byte{3}, 2)
	f.Add(append(frameBytes(`[]`), frameMark), []byte{9}, 6)
	f.Add(append(frameBytes(strings.Repeat("x", 300)), frameMark), []byte{200, 7}, 304)
	f.Fuzz(func(t *testing.T, stream []byte, pieces []byte, fdAt int) {
		if len(stream) > 2*MaxFrameMeta {
			return
		}
		pos, step, given := 0, 0, (*Files)(nil)
		recv := func(p []byte) (int, *Files, error) {
			if pos == len(stream) {
				return 0, nil, io.EOF
			}
			n := min(len(p), len(stream)-pos)
			if len(pieces) > 0 {
				n = min(n, 1+int(pieces[step%len(pieces)]))
				step++
			}
			copy(p, stream[pos:pos+n])
			set := new(Files)
			if pos <= fdAt && fdAt < pos+n {
				given = set
				set.fds = []int{-1} // no real descriptor: closing it is not what is tested
			}
			pos += n
			return n, set, nil
		}
		meta, set, err := readFrame(recv)
		if err != nil {
			if meta != nil || set != nil {
				t.Fatalf("an error and a result: %v", err)
			}
			return
		}
		if set != given || set.Len() != 1 {
			t.Fatal("not the descriptor that came")
		}
		if pos != 4+len(meta)+1 || fdAt != pos-1 || stream[pos-1] != frameMark {
			t.Fatalf("frame of %d bytes, %d read, descriptor at %d", 5+len(meta), pos, fdAt)
		}
		if !bytes.Equal(meta, stream[4:pos-1]) || !json.Valid(meta) || len(meta) > MaxFrameMeta {
			t.Fatal("not the object that came")
		}
	})
}

// FuzzParseRights: control data comes from the kernel, but on some systems cut
// short; whatever it is, the parser stays inside.
func FuzzParseRights(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{24, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, oob []byte) {
		var got Files
		if got.parse(oob); got.Len() > len(oob)/4 {
			t.Fatalf("%d descriptors out of %d bytes", got.Len(), len(oob))
		}
	})
}
