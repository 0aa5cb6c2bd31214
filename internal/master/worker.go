//go:build linux

package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass"
	"ndferry/internal/handover"
)

type workerState uint8

// States of a worker.
//
//	         started          READY
//	down ─────────────► starting ────► ready
//	 ▲                     │             │
//	 └─────────────────────┴─────────────┘ its process has ended, its offers are settled
const (
	down workerState = iota
	starting
	ready
)

// worker is one place among the workers, and the process that is there now. All fields but the first two are guarded by the master's mu.
type worker struct {
	m     *Master
	index int // from 1

	state    workerState
	begun    bool // its first start has succeeded or failed
	stalled  bool // it did not answer in time
	draining bool // it takes nothing new
	pid      int
	proc     *os.Process
	since    time.Time
	gen      uint32
	restarts int
	ch       *handover.Channel
	words    *handover.Words // nil while down
	credit   int
	seq      uint64   // of the last offer
	answered uint64   // offers up to this one
	assigned uint64   // offers that were neither refused nor revoked
	offers   []*offer // not answered, in order
	outbox   []*offer // not sent, in order
	sending  bool
	body     []byte // scratch of who is sending
	files    []int  // likewise
	counts   workerCounts
}

// workerCounts are of all processes that were in the place.
type workerCounts struct {
	offered, taken, refused, revoked, returned, cut uint64
}

// live keeps a process in the place until the master stops.
func (w *worker) live() {
	m := w.m
	short := 0 // lives in a row that were not long
	for {
		born := time.Now()
		err := w.once()
		m.mu.Lock()
		m.firstStart(w, err)
		stopping := m.stopping
		m.mu.Unlock()
		if stopping {
			return
		}
		short++
		pause := time.Duration(0)
		if time.Since(born) >= longLife && err == nil {
			short = 0
		} else if err != nil || short > 1 {
			pause = min(m.cfg.Backoff.Min<<min(short-1, 20), m.cfg.Backoff.Max)
		}
		m.cfg.Log.Error("a worker has ended and is started again", "worker", w.index, "generation", w.gen, "why", errText(err),
			"lived", time.Since(born).Round(time.Millisecond), "in_a_row", short, "again_in", pause)
		if !m.pause(pause) {
			return
		}
		m.mu.Lock()
		w.restarts++
		m.mu.Unlock()
	}
}

func errText(err error) string {
	if err == nil {
		return "it was ready, and ended"
	}
	return err.Error()
}

// pause waits, and tells whether the master goes on.
func (m *Master) pause(d time.Duration) bool {
	wake := time.AfterFunc(d, func() {
		m.mu.Lock()
		m.changed.Broadcast()
		m.mu.Unlock()
	})
	defer wake.Stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for end := time.Now().Add(d); !m.stopping && time.Now().Before(end); {
		m.changed.Wait()
	}
	return !m.stopping
}

// once starts a process and returns when it has ended and its offers are settled. The error is nil when it was ready once.
func (w *worker) once() (err error) {
	m := w.m
	if err := m.cfg.Step.At(handover.StepSpawn); err != nil {
		return err
	}
	cmd, err := w.spawn()
	if err != nil {
		return fmt.Errorf("master: start %v: %w", w, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = w.greet()
	if err == nil {
		err = w.listen()
	}
	// The channel has ended, or it is of no use; so has the process, or it must.
	_ = w.ch.Close()
	if err != nil {
		_ = cmd.Process.Kill()
	}
	var status error
	select {
	case status = <-ended:
	case <-time.After(killAfter):
		_ = cmd.Process.Kill()
		status = <-ended
	}
	if stepErr := m.cfg.Step.At(handover.StepReap); stepErr != nil {
		m.cfg.Log.Error("master: reap", "err", stepErr)
	}
	m.mu.Lock()
	wasReady := w.state == ready
	busy := w.buried()
	stopping := m.stopping
	m.mu.Unlock()
	flush(busy)
	switch {
	case wasReady && !stopping:
		m.cfg.Log.Warn("worker ended", "worker", w.index, "pid", cmd.Process.Pid, "status", statusText(status), "err", err)
		return nil
	case wasReady:
		return nil
	case err == nil:
		return fmt.Errorf("master: %v ended: %s", w, statusText(status))
	}
	var said *StartError
	if errors.As(err, &said) {
		return err
	}
	return fmt.Errorf("%w (%s)", err, statusText(status))
}

func statusText(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// spawn starts the process.
func (w *worker) spawn() (*exec.Cmd, error) {
	m := w.m
	conn, end, err := fdpass.PairFile(fdpass.Seqpacket)
	if err != nil {
		return nil, err
	}
	defer end.Close()
	ch, err := handover.NewChannel(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := ch.Unpoll(); err != nil {
		return nil, errors.Join(err, ch.Close())
	}
	words, err := handover.MakeWords(m.cfg.Credit)
	if err != nil {
		return nil, errors.Join(err, ch.Close())
	}
	cmd := m.cfg.Command()
	cmd.ExtraFiles = []*os.File{end, words.File()}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		return nil, errors.Join(errors.New("the master stops"), ch.Close(), words.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, ch.Close(), words.Close())
	}
	m.generation++
	w.state, w.stalled, w.draining, w.since = starting, false, false, time.Now()
	w.proc, w.pid, w.gen, w.ch, w.words = cmd.Process, cmd.Process.Pid, m.generation, ch, words
	w.credit, w.seq, w.answered, w.assigned = 0, 0, 0, 0
	return cmd, nil
}

// greet brings a process to READY.
func (w *worker) greet() error {
	m := w.m
	ctx, cancel := context.WithTimeout(context.Background(), m.cfg.StartTime)
	defer cancel()
	_, err := w.ch.Greet(ctx, &handover.Hello{
		Min: handover.MinVersion, Max: handover.MaxVersion, Generation: w.gen, Index: uint32(w.index),
		Slots: uint32(w.words.Slots()), Credit: uint32(m.cfg.Credit), Features: handover.FeatureAnswered,
	})
	if err != nil {
		return err
	}
	if err := w.ch.Send(ctx, handover.KindStart, handover.Raw(m.cfg.Start(w.index, w.gen))); err != nil {
		return err
	}
	f, files, err := w.ch.Recv(ctx)
	if err != nil {
		return err
	}
	files.Close()
	switch f.Kind {
	case handover.KindFailed:
		var why handover.Failed
		if err := why.ParseBody(f.Body); err != nil {
			return err
		}
		return &StartError{Code: int(why.Code), Text: why.Text}
	case handover.KindReady:
		var r handover.Ready
		if err := r.ParseBody(f.Body); err != nil {
			return err
		}
		w.isReady(int(r.Credit))
		return nil
	}
	return fmt.Errorf("master: %w: %v instead of READY", handover.ErrFrame, f.Kind)
}

func (w *worker) isReady(credit int) {
	m := w.m
	m.mu.Lock()
	w.state, w.credit = ready, min(max(credit, 1), m.cfg.Credit)
	m.firstStart(w, nil)
	if m.stopping {
		w.tell(handover.KindDrain, &handover.Drain{Time: m.cfg.Drain})
	}
	busy := m.dispatch(nil)
	m.changed.Broadcast()
	m.mu.Unlock()
	flush(busy)
}

// listen receives what a process says until its channel ends, which nil means.
func (w *worker) listen() error {
	for {
		f, files, err := w.ch.Recv(context.Background())
		switch {
		case errors.Is(err, fdpass.ErrPeerGone):
			return nil
		case errors.Is(err, fdpass.ErrTruncated):
			// A RETURN whose descriptor this process had no room for: the worker holds none any more, so it is lost.
			w.m.cfg.Log.Error("a returned connection is lost", "worker", w.index, "err", err)
			continue
		case err != nil:
			w.m.cfg.Log.Error("a worker's channel", "worker", w.index, "err", err)
			_ = w.ch.Abort(err)
			return err
		}
		err = w.hear(f, files)
		files.Discard()
		if err != nil {
			w.m.cfg.Log.Error("a worker's channel", "worker", w.index, "err", err)
			_ = w.ch.Abort(err)
			return err
		}
	}
}

// hear does what a frame says.
func (w *worker) hear(f handover.Frame, files *fdpass.Files) error {
	m := w.m
	switch f.Kind {
	case handover.KindReport:
		var r handover.Report
		if err := r.ParseBody(f.Body); err != nil {
			return err
		}
		return w.reported(&r)
	case handover.KindRefuse:
		var r handover.Refuse
		if err := r.ParseBody(f.Body); err != nil {
			return err
		}
		m.cfg.Log.Warn("a worker refused a connection", "worker", w.index, "reason", r.Reason, "why", r.Text)
		if r.Reason == handover.ReasonTruncated {
			w.takeBack()
		}
		return nil
	case handover.KindReturn:
		return w.returned(f.Body, files)
	case handover.KindGoodbye:
		var g handover.Goodbye
		if err := g.ParseBody(f.Body); err != nil {
			return err
		}
		m.cfg.Log.Warn("a worker says good-bye", "worker", w.index, "code", g.Code, "why", g.Text)
		return nil
	}
	return fmt.Errorf("master: %w: %v from a worker", handover.ErrFrame, f.Kind)
}

func (w *worker) reported(r *handover.Report) error {
	m := w.m
	m.mu.Lock()
	if r.Answered > w.seq {
		m.mu.Unlock()
		return fmt.Errorf("master: %w: %d offers answered of %d", handover.ErrFrame, r.Answered, w.seq)
	}
	w.draining = r.Draining
	w.credit = min(max(int(r.Credit), 1), m.cfg.Credit)
	var again []*custody
	if r.Answered > w.answered {
		again = w.answers(r.Answered)
	}
	busy := m.dispatch(again)
	m.changed.Broadcast()
	m.mu.Unlock()
	flush(busy)
	return nil
}

// answers settles the offers that the worker has answered, and returns the connections that are to go elsewhere. Called with mu held.
func (w *worker) answers(seq uint64) []*custody {
	w.answered = seq
	w.words.SetSettled(seq)
	if w.stalled {
		w.stalled = false
		w.m.cfg.Log.Info("a worker answers again", "worker", w.index, "pid", w.pid)
	}
	return w.settle(seq)
}

// takeBack revokes all that the worker has not taken: it lost some of it.
func (w *worker) takeBack() {
	m := w.m
	m.mu.Lock()
	busy := m.dispatch(w.revoke())
	m.mu.Unlock()
	flush(busy)
}

// revoke takes back what the worker has not taken, to be offered to others. Called with m.mu held.
func (w *worker) revoke() (again []*custody) {
	for _, o := range w.offers {
		if o.custody == nil || !o.sent || !w.words.Revoke(o.slot, o.seq) {
			continue
		}
		again = append(again, o.custody)
		o.custody = nil
		w.assigned--
		w.counts.revoked++
		w.m.counts.revoked++
		w.m.counts.redispatched++
	}
	w.passOver()
	return again
}

// returned dispatches a connection that a worker gave back.
func (w *worker) returned(body []byte, files *fdpass.Files) error {
	m := w.m
	var r handover.Return
	if err := r.ParseBody(body); err != nil {
		return err
	}
	if err := handover.CheckConn(files.Peek(0), r.Cookie); err != nil {
		return fmt.Errorf("master: a returned connection: %w", err)
	}
	fd, err := files.Take(0)
	if err != nil {
		return err
	}
	c := &custody{Meta: r.Meta, m: m, fd: fd, to: int(r.To)}
	c.Preread, c.State = append([]byte(nil), r.Preread...), append([]byte(nil), r.State...)
	m.mu.Lock()
	w.counts.returned++
	m.counts.returned++
	if c.Hops > maxHops {
		m.mu.Unlock()
		m.cfg.Log.Error("a connection was returned too often and is ended", "worker", w.index, "hops", c.Hops, "client", c.Client)
		c.end()
		return nil
	}
	busy := m.dispatch([]*custody{c})
	m.mu.Unlock()
	flush(busy)
	return nil
}

// tell sends a frame without descriptors, unless the worker is down. Called with mu held; a worker that has its queue full is not
// waited for.
func (w *worker) tell(kind handover.Kind, msg handover.Message) {
	if w.state != ready {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := w.ch.Send(ctx, kind, msg); err != nil {
		w.m.cfg.Log.Debug("not told", "worker", w.index, "kind", kind, "err", err)
	}
}

// kill ends the process, if there is one. Called with mu held.
func (w *worker) kill() {
	if w.state != down {
		_ = w.proc.Signal(unix.SIGKILL)
	}
}

// buried settles the offers of a process that has ended. Called with mu held.
func (w *worker) buried() []*worker {
	m := w.m
	w.state = down
	var again []*custody
	for _, o := range w.offers {
		if c := w.outcome(o, true); c != nil {
			again = append(again, c)
		}
	}
	w.offers, w.outbox = nil, nil
	w.words.AddTo(&m.past)
	cut := uint64(w.words.Live())
	w.counts.cut += cut
	m.counts.cut += cut
	_ = w.words.Close()
	w.words, w.pid = nil, 0
	busy := m.dispatch(again)
	m.changed.Broadcast()
	return busy
}
