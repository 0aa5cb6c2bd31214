//go:build linux

package handover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass"
)

// Channel is one end of the pair between a master and a worker. Send and Close may be called from any goroutine, Recv and TryRecv from one.
type Channel struct {
	conn  *fdpass.Conn
	buf   []byte       // owned by the goroutine that calls Recv
	files fdpass.Files // likewise; of TryRecv

	mu         sync.Mutex
	out        []byte // guarded by mu
	version    uint8  // guarded by mu; 0 until one is chosen
	generation uint32 // guarded by mu
}

// NewChannel makes a channel of a connection, which it owns from then on. It must be of type fdpass.Seqpacket, and made by this
// user or root; else the error matches fdpass.ErrPeerDenied.
func NewChannel(conn *fdpass.Conn) (*Channel, error) {
	if conn.Type() != fdpass.Seqpacket {
		return nil, fmt.Errorf("handover: a channel needs SOCK_SEQPACKET: %w", errors.ErrUnsupported)
	}
	// Who made the pair; nobody else can have an end of it that its maker did not give him.
	cred, err := conn.PeerCred()
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	if !fdpass.SameUser(cred) {
		return nil, fmt.Errorf("handover: a channel that uid %d made: %w", cred.UID, fdpass.ErrPeerDenied)
	}
	return &Channel{conn: conn, buf: make([]byte, MaxFrame+1)}, nil
}

// agree sets what frames have from then on.
func (c *Channel) agree(version uint8, generation uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version, c.generation = version, generation
}

func (c *Channel) agreed() (uint8, uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version, c.generation
}

// Message is the body of a frame that can be sent.
type Message interface{ AppendBody([]byte) []byte }

// Raw is a body that was made elsewhere.
type Raw []byte

// AppendBody appends the bytes.
func (r Raw) AppendBody(b []byte) []byte { return append(b, r...) }

// Send sends a frame and lends descriptors with it. It waits while the peer's queue is full, at most until ctx ends.
func (c *Channel) Send(ctx context.Context, kind Kind, m Message, files ...syscall.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.lay(kind, m, len(files)); err != nil {
		return err
	}
	if err := c.conn.SendContext(ctx, c.out, files...); err != nil {
		return fmt.Errorf("handover: send %v: %w", kind, err)
	}
	return nil
}

// TrySend is Send that waits for nothing: ok is false, and nothing was sent, when that would be needed.
func (c *Channel) TrySend(kind Kind, m Message, fds ...int) (ok bool, err error) {
	if !c.mu.TryLock() {
		return false, nil
	}
	defer c.mu.Unlock()
	if err := c.lay(kind, m, len(fds)); err != nil {
		return false, err
	}
	if ok, err = c.conn.TrySend(c.out, fds...); err != nil {
		return false, fmt.Errorf("handover: send %v: %w", kind, err)
	}
	return ok, nil
}

// lay puts a frame into c.out. Called with mu held.
func (c *Channel) lay(kind Kind, m Message, files int) error {
	var room [512]byte
	body := m.AppendBody(room[:0])
	if headerSize+len(body) > MaxFrame || files > fdpass.MaxFiles {
		return fmt.Errorf("handover: send %v: %w: %d bytes, %d descriptors", kind, ErrFrame, len(body), files)
	}
	f := Frame{Version: c.version, Kind: kind, Critical: true, Files: files, Generation: c.generation, Body: body}
	if kind == KindHello || kind == KindWelcome || kind == KindGoodbye {
		f.Version = 0
	}
	c.out = AppendFrame(c.out[:0], f)
	return nil
}

// Recv waits for the next frame that this program knows, and checks all of it but its body. The body is valid until the next Recv; the
// descriptors, of the number that the frame says, are the caller's. Kinds that are not known are skipped, or are
// ErrUnsupported when they are critical. The error of the peer's end matches fdpass.ErrPeerGone; after fdpass.ErrTruncated
// the next frame may be good, after any other the channel is of no use.
func (c *Channel) Recv(ctx context.Context) (Frame, *fdpass.Files, error) {
	for {
		n, files, err := c.conn.RecvContext(ctx, c.buf)
		if err != nil {
			return Frame{}, nil, fmt.Errorf("handover: %w", err)
		}
		f, err := c.check(c.buf[:n], files)
		if err != nil {
			files.Discard()
			return Frame{}, nil, err
		}
		if f.Kind.Known() {
			return f, files, nil
		}
		files.Discard()
		if f.Critical {
			return Frame{}, nil, fmt.Errorf("handover: %w: %v", ErrUnsupported, f.Kind)
		}
	}
}

// TryRecv is Recv that waits for nothing: ok is false when there is no frame. Body and descriptors are valid until the next TryRecv, which
// closes what was not taken.
func (c *Channel) TryRecv() (f Frame, files *fdpass.Files, ok bool, err error) {
	for {
		c.files.Abandon()
		n, ok, err := c.conn.TryRecv(c.buf, &c.files)
		switch {
		case err != nil:
			return Frame{}, nil, true, fmt.Errorf("handover: %w", err)
		case !ok:
			return Frame{}, nil, false, nil
		}
		f, err := c.check(c.buf[:n], &c.files)
		if err == nil && f.Kind.Known() {
			return f, &c.files, true, nil
		}
		c.files.Abandon()
		switch {
		case err != nil:
			return Frame{}, nil, true, err
		case f.Critical:
			return Frame{}, nil, true, fmt.Errorf("handover: %w: %v", ErrUnsupported, f.Kind)
		}
	}
}

// Unpoll takes the channel out of the runtime's poller, which would wake a thread for each frame that the peer has received. Recv then waits
// on a thread of its own. Nobody may be waiting on the channel.
func (c *Channel) Unpoll() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fd, err := c.conn.Detach()
	if err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	conn, err := fdpass.Bare(fd)
	if err != nil {
		return errors.Join(fmt.Errorf("handover: %w", err), unix.Close(fd))
	}
	c.conn = conn
	return nil
}

func (c *Channel) check(b []byte, files *fdpass.Files) (Frame, error) {
	f, err := ParseFrame(b)
	if err != nil {
		return f, err
	}
	if files.Len() != f.Files {
		return f, fmt.Errorf("handover: %w: %v came with %d, its header says %d", ErrFiles, f.Kind, files.Len(), f.Files)
	}
	if want, ok := filesOf(f.Kind); ok && f.Files != want {
		return f, fmt.Errorf("handover: %w: %v with %d, it has %d", ErrFiles, f.Kind, f.Files, want)
	}
	version, generation := c.agreed()
	opening := f.Kind == KindHello || f.Kind == KindWelcome || f.Kind == KindGoodbye
	switch {
	case opening && f.Version != 0, !opening && (version == 0 || f.Version != version):
		return f, fmt.Errorf("handover: %w: %v in version %d, agreed is %d", ErrVersion, f.Kind, f.Version, version)
	case version != 0 && f.Generation != generation:
		return f, fmt.Errorf("handover: %w: %v of %d, this is %d", ErrGeneration, f.Kind, f.Generation, generation)
	}
	return f, nil
}

// filesOf returns how many descriptors a kind comes with; ok is false when its body says so.
func filesOf(k Kind) (n int, ok bool) {
	switch {
	case k == KindOffer || !k.Known():
		return 0, false
	case k == KindReturn:
		return 1, true
	}
	return 0, true
}

// Abort tells the peer why the channel ends, if it listens, and closes it.
func (c *Channel) Abort(why error) error {
	code := uint16(GoodbyeProtocol)
	switch {
	case why == nil:
		code, why = GoodbyeStop, errors.New("end")
	case errors.Is(why, ErrVersion):
		code = GoodbyeVersion
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = c.Send(ctx, KindGoodbye, &Goodbye{Code: code, Text: why.Error()}) // it may be gone
	return c.Close()
}

// Close closes this end and wakes who waits on it.
func (c *Channel) Close() error { return c.conn.Close() }

// Greet says HELLO as the master and returns the worker's answer, after which both ends have agreed. Errors to test for: ErrVersion, ErrFrame,
// ErrFiles, fdpass.ErrPeerGone, fdpass.ErrTimeout.
func (c *Channel) Greet(ctx context.Context, h *Hello) (Welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, HelloTime)
	defer cancel()
	var w Welcome
	c.agree(0, h.Generation)
	if err := c.Send(ctx, KindHello, h); err != nil {
		return w, err
	}
	f, files, err := c.Recv(ctx)
	if err != nil {
		return w, err
	}
	files.Close()
	switch {
	case f.Kind == KindGoodbye:
		return w, goodbye(f.Body)
	case f.Kind != KindWelcome:
		return w, fmt.Errorf("handover: %w: %v instead of WELCOME", ErrFrame, f.Kind)
	case f.Generation != h.Generation:
		return w, fmt.Errorf("handover: %w: WELCOME of %d, this is %d", ErrGeneration, f.Generation, h.Generation)
	}
	if err := w.ParseBody(f.Body); err != nil {
		return w, err
	}
	if w.Version < h.Min || w.Version > h.Max {
		return w, fmt.Errorf("handover: %w: the worker chose %d of %d to %d", ErrVersion, w.Version, h.Min, h.Max)
	}
	c.agree(w.Version, h.Generation)
	return w, nil
}

// goodbye is the error that a GOODBYE instead of another frame is.
func goodbye(body []byte) error {
	var g Goodbye
	if err := g.ParseBody(body); err != nil {
		return err
	}
	kind := fdpass.ErrPeerGone
	if g.Code == GoodbyeVersion {
		kind = ErrVersion
	}
	return fmt.Errorf("handover: %w: it said %q", kind, g.Text)
}
