//go:build unix

package client

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/wire"
)

// TestSlowServer has a server take nothing of what it is sent for longer than the client waits for progress: as long as it says ACK the client
// waits on, and no longer.
func TestSlowServer(t *testing.T) {
	const timeout, signs = time.Second, 25
	ours, theirs := connected(t)
	var said atomic.Int32
	ended := make(chan error, 1)
	go func() {
		ended <- func() error {
			frame := func(kind wire.Kind, stream uint32, message any) []byte {
				return wire.AppendFrame(nil, wire.Header{Kind: kind, Stream: stream}, wire.Encode(message))
			}
			if _, err := theirs.Write(frame(wire.Hello, 0, wire.NewHello("test", wire.MaxCredit))); err != nil {
				return err
			}
			for range 2 { // HELLO, PUT
				var head [wire.HeaderSize]byte
				if _, err := io.ReadFull(theirs, head[:]); err != nil {
					return err
				}
				h, err := wire.ParseHeader(head[:])
				if err != nil {
					return err
				}
				if _, err := io.CopyN(io.Discard, theirs, int64(h.Length)+wire.TrailerSize); err != nil {
					return err
				}
			}
			if _, err := theirs.Write(frame(wire.Accept, 1, wire.AcceptMessage{Durable: [][2]uint64{}})); err != nil {
				return err
			}
			for range signs {
				time.Sleep(timeout / 10)
				if _, err := theirs.Write(wire.AppendFrame(nil, wire.Header{Kind: wire.Ack, Stream: 1, Raw: wire.AckReceived}, nil)); err != nil {
					return err
				}
				said.Add(1)
			}
			return nil
		}()
	}()
	c, err := New(t.Context(), ours, Config{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dt, err := array.ParseDType("|u1")
	if err != nil {
		t.Fatal(err)
	}
	a := Array{DType: dt, Shape: array.Shape{8 << 20}, Data: make([]byte, 8<<20)}
	a.Data[0] = 1
	_, err = c.Put(t.Context(), "a", a, PutOptions{})
	if !errors.Is(err, os.ErrDeadlineExceeded) || said.Load() != signs {
		t.Errorf("the server had said ACK %d times of %d when the client gave up: %v", said.Load(), signs, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
