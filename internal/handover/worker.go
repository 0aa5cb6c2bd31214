//go:build linux

package handover

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass"
)

// Descriptors that a worker is started with.
const (
	ChannelFD = 3
	WordsFD   = 4
)

// WorkerConfig is what a worker's end is made with. The zero value works.
type WorkerConfig struct {
	Credit int  // offers unanswered at most; default what the master allows
	Step   Hook // nil in production
}

// Worker is a worker's end of the channel. Methods may be called from any goroutine but for Run, which is called once, or instead of it
// Attach and then Turn.
type Worker struct {
	ch     *Channel
	words  *Words
	hello  Hello
	start  []byte
	cfg    WorkerConfig
	after  func(time.Duration, func()) // immutable after Attach; nil under Run
	offers []Offer                     // owned by who receives; scratch

	draining atomic.Bool
	told     sync.Once // of DRAIN

	mu       sync.Mutex
	answered uint64 // guarded by mu
	reported uint64 // guarded by mu
	due      bool   // guarded by mu; a timer will report
	settled  uint64 // guarded by mu; what the master had seen when the timer began
}

// Inherited is Join over the descriptors that a worker is started with.
func Inherited(ctx context.Context, cfg WorkerConfig) (*Worker, error) {
	conn, err := fdpass.Inherited(ChannelFD)
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	unix.CloseOnExec(WordsFD)
	ch, err := NewChannel(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return Join(ctx, ch, os.NewFile(WordsFD, "words"), cfg)
}

// Join answers the master's HELLO, opens its table, and waits for START. It owns channel and file, also on an error, which the
// master is told.
func Join(ctx context.Context, ch *Channel, words *os.File, cfg WorkerConfig) (*Worker, error) {
	w := &Worker{ch: ch, cfg: cfg}
	if err := w.join(ctx, words); err != nil {
		if w.words != nil {
			w.words.Close()
		} else {
			words.Close()
		}
		_ = ch.Abort(err)
		return nil, err
	}
	return w, nil
}

func (w *Worker) join(ctx context.Context, words *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, HelloTime)
	defer cancel()
	f, err := w.expect(ctx, KindHello)
	if err != nil {
		return err
	}
	if err := w.hello.ParseBody(f.Body); err != nil {
		return err
	}
	h := &w.hello
	version := min(h.Max, MaxVersion)
	switch {
	case version < max(h.Min, MinVersion):
		return fmt.Errorf("handover: %w: the master speaks %d to %d, this worker %d to %d", ErrVersion, h.Min, h.Max, MinVersion, MaxVersion)
	case h.Required != 0:
		return fmt.Errorf("handover: %w: the master needs features %#x", ErrVersion, h.Required)
	case f.Generation != h.Generation:
		return fmt.Errorf("handover: %w: HELLO for %d in a frame for %d", ErrGeneration, h.Generation, f.Generation)
	}
	if w.words, err = openWords(words, int(h.Slots)); err != nil {
		return err
	}
	if w.cfg.Credit <= 0 || w.cfg.Credit > int(h.Credit) {
		w.cfg.Credit = int(h.Credit)
	}
	w.ch.agree(0, h.Generation)
	if err := w.ch.Send(ctx, KindWelcome, &Welcome{Version: version, PID: uint32(os.Getpid()), Files: fileLimit()}); err != nil {
		return err
	}
	w.ch.agree(version, h.Generation)
	if f, err = w.expect(ctx, KindStart); err != nil {
		return err
	}
	if len(f.Body) > MaxStart {
		return fmt.Errorf("handover: %w: START of %d bytes", ErrFrame, len(f.Body))
	}
	w.start = append([]byte(nil), f.Body...)
	return nil
}

// expect receives a frame without descriptors.
func (w *Worker) expect(ctx context.Context, kind Kind) (Frame, error) {
	f, files, err := w.ch.Recv(ctx)
	if err != nil {
		return f, err
	}
	files.Close()
	switch f.Kind {
	case kind:
		return f, nil
	case KindGoodbye:
		return f, goodbye(f.Body)
	}
	return f, fmt.Errorf("handover: %w: %v instead of %v", ErrFrame, f.Kind, kind)
}

func fileLimit() uint64 {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return r.Cur
}

// Index is the worker's place, from 1.
func (w *Worker) Index() int { return int(w.hello.Index) }

// Generation tells this worker from those before and after it.
func (w *Worker) Generation() uint32 { return w.hello.Generation }

// Start is what the master said to serve.
func (w *Worker) Start() []byte { return w.start }

// Words lends the table.
func (w *Worker) Words() *Words { return w.words }

// Ready tells the master that offers are welcome.
func (w *Worker) Ready(ctx context.Context) error {
	return w.ch.Send(ctx, KindReady, &Ready{Credit: uint32(w.cfg.Credit)})
}

// Fail tells the master why this worker cannot serve, with an exit code.
func (w *Worker) Fail(ctx context.Context, code int, why error) error {
	return w.ch.Send(ctx, KindFailed, &Failed{Code: uint16(code), Text: why.Error()})
}

// Close closes the channel and the table.
func (w *Worker) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reported = math.MaxUint64 // nothing is told any more
	return errors.Join(w.ch.Close(), w.words.Close())
}

// Conn is a connection that this worker has taken and touched. Whoever gets it takes the descriptor out, by Socket or FD, or it is
// closed when the handler returns; when the connection has ended he calls Closed of Words.
type Conn struct {
	Offer // Preread and State are valid until the handler returns

	files *fdpass.Files
	index int
}

// Socket returns the connection. The caller owns it.
func (t *Conn) Socket() (*fdpass.SocketConn, error) { return t.files.TakeConn(t.index) }

// FD returns the descriptor, in non-blocking mode and close-on-exec. The caller owns it. Another process may have a copy: who ends the
// connection shuts it down before he closes it.
func (t *Conn) FD() (int, error) { return t.files.Take(t.index) }

// Handler begins to serve connections. It is called for one after the other; the connection counts as touched.
type Handler func(*Conn) error

// Return gives a connection back to the master, which offers it to the worker that it names. file is lent; the caller releases
// his copy without shutting it down when there is no error, and still owns the connection when there is one.
func (w *Worker) Return(ctx context.Context, r *Return, file syscall.Conn) error {
	if len(r.Preread)+len(r.State) > MaxCarry {
		return fmt.Errorf("handover: return: %w: %d bytes go along, at most %d may", ErrFrame, len(r.Preread)+len(r.State), MaxCarry)
	}
	return w.ch.Send(ctx, KindReturn, r, file)
}
