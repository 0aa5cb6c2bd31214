//go:build linux || darwin || freebsd

package fdpass

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// The stream framing carries one descriptor:
//
//	u32  length n of the object, big-endian
//	n    a JSON object in UTF-8
//	u8   0x20, and with this byte one descriptor in SCM_RIGHTS
//
// The object is whatever the sender's user gives; programs of this kind put
// "client_address", "timestamp" and the sender's own descriptor number "fd"
// there. The number means nothing to a receiver and is neither sent nor used
// here.
const (
	// MaxFrameMeta is the largest object in bytes, checked before allocation.
	MaxFrameMeta = 64 << 10
	// FrameTimeout bounds a whole frame, silence included, if no deadline is set.
	FrameTimeout = 30 * time.Second

	frameMark = 0x20
)

// SendFrame sends meta, which must encode to a JSON object, and lends file with
// it, on a SOCK_STREAM connection. meta is not changed. It takes at most
// FrameTimeout, or until an earlier deadline of the Conn or of ctx. A nil error
// means that the kernel has the frame, not that anyone has read it. After an
// error the connection is in mid-frame: close it. The caller still owns file.
func (c *Conn) SendFrame(ctx context.Context, meta any, file syscall.Conn) error {
	frame, err := encodeFrame(meta)
	if err != nil {
		return fmt.Errorf("fdpass: send frame: %w", err)
	}
	if c.typ != Stream {
		return fmt.Errorf("fdpass: send frame: needs SOCK_STREAM: %w", errors.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, FrameTimeout)
	defer cancel()
	if err := c.SendContext(ctx, frame); err != nil {
		return fmt.Errorf("fdpass: send frame: %w", err)
	}
	if err := c.SendContext(ctx, []byte{frameMark}, file); err != nil {
		return fmt.Errorf("fdpass: send frame: %w", err)
	}
	return nil
}

// encodeFrame returns the frame without its last byte.
func encodeFrame(meta any) ([]byte, error) {
	object, err := json.Marshal(meta)
	if err != nil {
		return nil, err
	}
	if err := checkObject(object); err != nil {
		return nil, err
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(object)), uint32(len(object)))
	return append(frame, object...), nil
}

// RecvFrame receives one frame and returns its object as it came and a Files
// with exactly one descriptor, which the caller owns. It takes at most
// FrameTimeout from the call to the last byte, or until an earlier deadline of
// the Conn or of ctx. After an error nothing is left open and the connection is
// in mid-frame: close it.
//
// Errors to test for: ErrFrame (the sender broke the framing), ErrNone,
// ErrCount, ErrTimeout, ErrPeerGone, ErrTruncated.
func (c *Conn) RecvFrame(ctx context.Context) (json.RawMessage, *Files, error) {
	if c.typ != Stream {
		return nil, nil, fmt.Errorf("fdpass: recv frame: needs SOCK_STREAM: %w", errors.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, FrameTimeout)
	defer cancel()
	meta, files, err := readFrame(func(p []byte) (int, *Files, error) { return c.RecvContext(ctx, p) })
	if err != nil {
		return nil, nil, fmt.Errorf("fdpass: recv frame: %w", err)
	}
	return meta, files, nil
}

// readFrame reads one frame with recv, which it never lets read past the part
// that it is in: descriptors would come loose from their byte.
func readFrame(recv func([]byte) (int, *Files, error)) (json.RawMessage, *Files, error) {
	var head [4]byte
	if err := readPart(recv, head[:]); err != nil {
		return nil, nil, fmt.Errorf("length: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrameMeta {
		return nil, nil, fmt.Errorf("object of %d bytes, at most %d: %w", n, MaxFrameMeta, ErrFrame)
	}
	object := make([]byte, n)
	if err := readPart(recv, object); err != nil {
		return nil, nil, fmt.Errorf("object: %w", err)
	}
	if err := checkObject(object); err != nil {
		return nil, nil, err
	}
	var mark [1]byte
	_, files, err := recv(mark[:])
	if err != nil {
		return nil, nil, fmt.Errorf("descriptor: %w", err)
	}
	if err := files.Expect(1); err != nil {
		return nil, nil, err
	}
	if mark[0] != frameMark {
		files.Discard()
		return nil, nil, fmt.Errorf("the descriptor's byte is %#02x, want %#02x: %w", mark[0], frameMark, ErrFrame)
	}
	return object, files, nil
}

// readPart fills p with bytes that carry no descriptor.
func readPart(recv func([]byte) (int, *Files, error), p []byte) error {
	for len(p) > 0 {
		n, files, err := recv(p)
		if err != nil {
			return err
		}
		if err := files.Expect(0); err != nil {
			return fmt.Errorf("a descriptor before its byte: %w: %w", ErrFrame, err)
		}
		p = p[n:]
	}
	return nil
}

func checkObject(object []byte) error {
	if len(object) > MaxFrameMeta {
		return fmt.Errorf("object of %d bytes, at most %d: %w", len(object), MaxFrameMeta, ErrFrame)
	}
	if !utf8.Valid(object) || !json.Valid(object) || !bytes.HasPrefix(bytes.TrimLeft(object, " \t\r\n"), []byte("{")) {
		return fmt.Errorf("not a JSON object in UTF-8: %w", ErrFrame)
	}
	return nil
}

// FrameServer receives frames from senders that connect, send one frame and go.
// The zero value works.
type FrameServer struct {
	// Timeout runs from accept to the last byte; 0 is FrameTimeout.
	Timeout time.Duration
	// MaxPending bounds the connections whose frame is not complete; 0 is 64.
	// While so many are pending nobody is accepted.
	MaxPending int
	// OnError hears of every connection that did not give a frame; nil is silence.
	OnError func(error)
}

// Serve accepts on l and calls handle with every frame until ctx ends or l
// fails, then waits for the connections that are pending. Each connection has
// its own goroutine, so that a silent peer delays nobody; handle is called from
// several at once and owns the Files. Serve does not close l.
func (s *FrameServer) Serve(ctx context.Context, l *Listener, handle func(json.RawMessage, *Files)) error {
	timeout, maxPending := s.Timeout, s.MaxPending
	if timeout == 0 {
		timeout = FrameTimeout
	}
	if maxPending == 0 {
		maxPending = 64
	}
	var pending sync.WaitGroup
	defer pending.Wait()
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	slots := make(chan struct{}, maxPending)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		c, err := l.AcceptConn()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !passing(err) {
				return err
			}
			s.report(err)
			select {
			case <-time.After(maxBackoff):
			case <-ctx.Done():
			}
			continue
		}
		deadline := time.Now().Add(timeout)
		pending.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			frameCtx, cancel := context.WithDeadline(ctx, deadline)
			defer cancel()
			meta, files, err := c.RecvFrame(frameCtx)
			if err == nil {
				handle(meta, files)
			} else {
				s.report(err)
			}
		})
	}
}

func (s *FrameServer) report(err error) {
	if s.OnError != nil {
		s.OnError(err)
	}
}

// passing reports whether an accept that failed with err is worth another try.
func passing(err error) bool {
	for _, errno := range []error{unix.EMFILE, unix.ENFILE, unix.ECONNABORTED, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
