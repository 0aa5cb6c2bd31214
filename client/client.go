package client

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"ndferry/wire"
)

// Config is what a Client is made with. The zero value works.
type Config struct {
	Timeout  time.Duration // longest wait for progress of the other side; default 30 s, negative: none
	Software string        // named to the server; default ndferry-go
}

// DefaultTimeout is the longest wait for progress when Config says nothing.
const DefaultTimeout = 30 * time.Second

// readAhead is what headers and small messages pass through. The head of a cell that comes with a header is copied out of it.
const readAhead = 16 << 10

// Client is one connection to a server. Its methods may be called from any goroutine; they run one after another.
type Client struct {
	cfg  Config                               // immutable after New
	addr string                               // immutable after Dial; "" when there is no way back to the server
	rest func(time.Duration) <-chan time.Time // immutable; time.After but in tests

	mu     sync.Mutex
	in     reader            // guarded by mu
	nc     net.Conn          // guarded by mu and state: both to change it
	out    []byte            // guarded by mu; small frames, written before anything else
	peer   wire.HelloMessage // guarded by mu
	credit uint64            // guarded by mu; raw bytes of cells that we may send
	grants granting          // guarded by mu; raw bytes of cells that the server may send
	stream uint32            // guarded by mu; the newest
	ended  bool              // guarded by mu; FINISH or CANCEL, the last frame of a PUT, is in out or was written
	buf    []byte            // guarded by mu; a cell that has no memory of its own
	rate   float64           // guarded by mu; bytes a second that the connection was seen to carry; 0: not seen yet

	receipts map[string]*alike[Receipt]   // guarded by mu; the last of a name
	metas    map[string]*alike[described] // guarded by mu

	state  sync.Mutex
	broken error               // guarded by state; why the connection is closed
	more   []*Client           // guarded by state; further connections for transfers over several
	forms  map[string]*putForm // guarded by state
}

// reader is what frames are read from: a bufio.Reader, or an exactReader that never reads ahead.
type reader interface {
	io.Reader
	Peek(n int) ([]byte, error)
	Discard(n int) (int, error)
	Buffered() int
}

// Dial connects to a server, see ParseAddr, and opens the conversation. ctx bounds both.
func Dial(ctx context.Context, addr string, cfg Config) (*Client, error) {
	a, err := ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: cfg.timeout()}
	nc, err := d.DialContext(ctx, a.Network, a.Address)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: is the server running?", err)
		}
		return nil, fmt.Errorf("client: connect to %v: %w", a, err)
	}
	c, err := New(ctx, nc, cfg)
	if err == nil {
		c.addr = addr
	}
	return c, err
}

// New opens the conversation on a connected stream, which it takes: it is closed with the client, and when New fails.
func New(ctx context.Context, nc net.Conn, cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, nc: nc, rest: time.After, in: bufio.NewReaderSize(eagerly(nc), readAhead), grants: grantingOn(nc)}
	err := c.call(ctx, "connect", "", func() error { return c.greet(c.grants.first()) })
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// greet sends our HELLO and hears the other side's.
func (c *Client) greet(credit uint64) error {
	// The line break makes a server of some text protocol, such as HTTP, answer at once that it is one.
	m := wire.NewHello(c.cfg.software(), credit)
	m.Features = []string{wire.FeatureResend}
	hello := append(wire.Encode(m), '\n')
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Hello, Flags: wire.Critical}, hello)
	c.patience(c.nc.SetWriteDeadline)
	_, sent := c.nc.Write(c.out)
	c.out = c.out[:0]
	if errors.Is(sent, os.ErrDeadlineExceeded) {
		return sent
	}
	err := c.greeted()
	// What a server that is gone said first tells more: an ERROR, newer versions, another protocol.
	if sent != nil && !errors.As(err, new(*wire.Error)) && !errors.As(err, new(*wire.Failure)) {
		return sent
	}
	return err
}

// greeted hears the other side's HELLO.
func (c *Client) greeted() error {
	h, err := c.header()
	if err != nil {
		return err
	}
	b, err := c.control(h)
	if err != nil {
		return err
	}
	if h.Kind == wire.Fail {
		return c.failure(h, b)
	}
	if h.Kind != wire.Hello {
		return wire.Failf(wire.CodeProtocol, "the other side began with %v", h.Kind)
	}
	if err := wire.Decode(b, &c.peer); err != nil {
		return err
	}
	c.credit = c.peer.Credit
	return c.peer.Check()
}

func (c Config) timeout() time.Duration {
	switch {
	case c.Timeout == 0:
		return DefaultTimeout
	case c.Timeout < 0:
		return 0
	}
	return c.Timeout
}

func (c Config) software() string { return cmp.Or(c.Software, "ndferry-go") }

// Server is what the server called itself.
func (c *Client) Server() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer.Software
}

// Close closes the connection; a call that is under way ends with an error.
func (c *Client) Close() error {
	err := c.breakWith(ErrClosed)
	c.state.Lock()
	defer c.state.Unlock()
	for _, l := range c.more {
		err = errors.Join(err, l.Close())
	}
	c.more = nil
	return err
}

// Err returns why the connection is closed, nil while it is usable.
func (c *Client) Err() error { return c.whyBroken() }

// breakWith closes the connection. ErrClosed is the last word.
func (c *Client) breakWith(err error) error {
	c.state.Lock()
	defer c.state.Unlock()
	if c.broken == nil || err == ErrClosed {
		c.broken = err
	}
	return c.nc.Close()
}

func (c *Client) whyBroken() error {
	c.state.Lock()
	defer c.state.Unlock()
	return c.broken
}

// boundary marks an error after which the connection stands between two operations: an ERROR of the server on our stream, or
// a failure of the caller's that was told to the server.
type boundary struct{ err error }

func (b boundary) Error() string { return b.err.Error() }
func (b boundary) Unwrap() error { return b.err }

// call runs one operation. An error that leaves nobody knowing where the connection stands closes it.
func (c *Client) call(ctx context.Context, op, name string, f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why := c.whyBroken(); why != nil {
		return wrap(op, name, fmt.Errorf("the connection is closed: %w", why))
	}
	if err := ctx.Err(); err != nil {
		return wrap(op, name, boundary{err})
	}
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { c.breakWith(context.Cause(ctx)) })
	}
	err := f()
	stop()
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[boundary](err); ok {
		return wrap(op, name, err)
	}
	if cause := ctx.Err(); cause != nil {
		err = cause
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no progress within %v: %w", c.cfg.timeout(), err)
	} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the server closed the connection: %w", io.ErrUnexpectedEOF)
	} else if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		err = fmt.Errorf("the server closed the connection: %w", err)
	}
	c.breakWith(err)
	return wrap(op, name, err)
}

// patience sets how long the next read or write may wait.
func (c *Client) patience(set func(time.Time) error) {
	if t := c.cfg.timeout(); t > 0 {
		set(time.Now().Add(t))
	}
}

// flush writes what is in out.
func (c *Client) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.write(c.out)
	c.out = c.out[:0]
	return c.lastWords(err)
}

// write writes p for as long as the other side takes something of it, or says something, within the time that it has for progress: a server
// whose store is slow says CREDIT or ACK meanwhile.
func (c *Client) write(p []byte) error {
	for {
		c.patience(c.nc.SetWriteDeadline)
		n, err := c.nc.Write(p)
		if !c.mayGoOn(int64(n), err) {
			return err
		}
		p = p[n:]
	}
}

// writeAll is write for several buffers.
func (c *Client) writeAll(bufs *net.Buffers) error {
	for {
		c.patience(c.nc.SetWriteDeadline)
		n, err := bufs.WriteTo(c.nc)
		if !c.mayGoOn(n, err) {
			return err
		}
	}
}

// mayGoOn tells that a write of which n bytes were taken in time is to be gone on with.
func (c *Client) mayGoOn(n int64, err error) bool {
	return err != nil && errors.Is(err, os.ErrDeadlineExceeded) && (n > 0 || c.lives())
}

// lives tells whether something has come that was not there when it was asked before; a reader of frames finds it later.
func (c *Client) lives() bool {
	had := c.in.Buffered()
	c.nc.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, _ = c.in.Peek(had + 1)
	c.nc.SetReadDeadline(time.Time{})
	return c.in.Buffered() > had
}

// lastWords looks, when writing failed, for the ERROR that the server sent before it closed.
func (c *Client) lastWords(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.nc.SetReadDeadline(time.Now().Add(time.Second))
	for {
		b, rerr := c.in.Peek(wire.HeaderSize)
		if rerr != nil {
			return err
		}
		h, rerr := wire.ParseHeader(b)
		if rerr != nil || h.Kind == wire.Chunk {
			return err
		}
		c.in.Discard(wire.HeaderSize)
		payload, rerr := c.control(h)
		if rerr != nil {
			return rerr
		}
		if h.Kind == wire.Fail {
			f := new(wire.Failure)
			if wire.Decode(payload, f) != nil {
				return err
			}
			return f // not a remote: the connection is gone
		}
	}
}

// request begins a new stream with one frame.
func (c *Client) request(kind wire.Kind, message any) {
	c.stream++
	c.ended = false
	h := wire.Header{Kind: kind, Flags: wire.Critical, Stream: c.stream}
	c.out = wire.AppendFrame(c.out, h, wire.Encode(message))
}

// header reads the next header.
func (c *Client) header() (wire.Header, error) {
	if c.in.Buffered() < wire.HeaderSize {
		c.patience(c.nc.SetReadDeadline)
	}
	b, err := c.in.Peek(wire.HeaderSize)
	if err != nil {
		return wire.Header{}, err
	}
	h, err := wire.ParseHeader(b)
	c.in.Discard(wire.HeaderSize)
	return h, err
}

// body reads payload and trailer to p and checks them. aborted tells that the sender gave the frame up.
func (c *Client) body(h wire.Header, p []byte) (crc uint32, aborted bool, err error) {
	told := uint64(0) // of what the cell costs
	for done := 0; done < len(p); {
		piece := p[done:min(done+wire.Piece, len(p))]
		if c.in.Buffered() < len(piece) {
			c.patience(c.nc.SetReadDeadline)
		}
		if _, err := io.ReadFull(c.in, piece); err != nil {
			return 0, false, err
		}
		crc = wire.Update(crc, piece)
		done += len(piece)
		if h.Kind == wire.Chunk {
			here := wire.Cost(h.Raw) * uint64(done) / uint64(len(p))
			c.arrived(here - told)
			told = here
		}
	}
	var b [wire.TrailerSize]byte
	if _, err := io.ReadFull(c.in, b[:]); err != nil {
		return 0, false, err
	}
	want, status, err := wire.ParseTrailer(b[:])
	if err != nil {
		return 0, false, err
	}
	if status == wire.Aborted {
		return crc, true, nil
	}
	return crc, false, wire.CheckPayload(h, crc, want)
}

// control reads the payload of a frame that is no CHUNK.
func (c *Client) control(h wire.Header) ([]byte, error) {
	if h.Length == 0 {
		return nil, nil
	}
	b := make([]byte, h.Length)
	_, aborted, err := c.body(h, b)
	if aborted {
		return nil, nil
	}
	return b, err
}

func (c *Client) failure(h wire.Header, b []byte) error {
	f := new(wire.Failure)
	if err := wire.Decode(b, f); err != nil {
		return err
	}
	if h.Stream == 0 {
		return f
	}
	return boundary{f}
}

// next reads frames until one of our stream comes, and deals with those of the connection. A CHUNK is returned before its payload,
// others with it; an ERROR is returned as error.
func (c *Client) next() (wire.Header, []byte, error) {
	for {
		h, err := c.header()
		if err != nil {
			return h, nil, err
		}
		if h.Kind == wire.Chunk && h.Stream == c.stream {
			return h, nil, nil
		}
		b, err := c.control(h)
		if err != nil {
			return h, nil, err
		}
		switch {
		case h.Kind == wire.Credit:
			if c.credit += h.Index; c.credit > wire.MaxCredit {
				return h, nil, wire.Failf(wire.CodeProtocol, "credit of %d bytes", c.credit)
			}
			return h, nil, nil
		case h.Kind == wire.Fail && (h.Stream == 0 || h.Stream == c.stream):
			return h, nil, c.failure(h, b)
		case h.Stream == c.stream || h.Kind == wire.Pong:
			return h, b, nil
		}
		// What an operation that has ended left behind, or what nobody knows and is not critical.
	}
}

// reply reads until a frame of one of the kinds comes.
func (c *Client) reply(kind wire.Kind) (wire.Header, []byte, error) {
	for {
		h, b, err := c.next()
		if err != nil || h.Kind == kind {
			return h, b, err
		}
		if h.Kind != wire.Credit && h.Kind != wire.Ack && h.Kind.Known() {
			return h, nil, wire.Failf(wire.CodeProtocol, "the server answered with %v where %v belongs", h.Kind, kind)
		}
	}
}
