//go:build linux

package master

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ndferry/internal/handover"
)

// Master supervises workers. Its methods may be called from any goroutine, Run once.
type Master struct {
	cfg     Config
	started time.Time

	mu         sync.Mutex
	changed    sync.Cond          // on mu: a worker has credit, or the master stops
	workers    []*worker          // immutable; their fields say who guards them
	next       int                // guarded by mu; of the round
	generation uint32             // guarded by mu
	waiting    []*custody         // guarded by mu; no worker could have them
	stopping   bool               // guarded by mu
	first      int                // guarded by mu; workers whose first start has not succeeded or failed
	ready      chan struct{}      // closed when first is 0
	firstErr   error              // guarded by mu; of the first starts
	counts     counts             // guarded by mu
	past       handover.Histogram // guarded by mu; of workers that have ended
	lives      sync.WaitGroup
}

// counts are what a master has done.
type counts struct {
	accepted, offered, redispatched, revoked, returned, refused, cut uint64
}

// New returns a master that has not started anything.
func New(cfg Config) (*Master, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Credit = creditOf(cfg.Credit, cfg.Workers)
	m := &Master{cfg: cfg, started: time.Now(), first: cfg.Workers, ready: make(chan struct{})}
	m.changed.L = &m.mu
	for i := range cfg.Workers {
		m.workers = append(m.workers, &worker{m: m, index: i + 1})
	}
	return m, nil
}

// Ready is closed when every worker has started or failed to, once.
func (m *Master) Ready() <-chan struct{} { return m.ready }

// Serving tells whether a worker is ready.
func (m *Master) Serving() bool { return m.startError() == nil }

// Run starts the workers, accepts until ctx ends, and then lets them finish within the drain time. Without any worker that could
// start at first it returns why. Listeners are closed when it returns.
func (m *Master) Run(ctx context.Context) error {
	defer m.unlisten()
	var doors []*door
	for i, ln := range m.cfg.Listeners {
		d, err := openDoor(m, i, ln)
		if err != nil {
			for _, d := range doors {
				d.release()
			}
			return err
		}
		doors = append(doors, d)
	}
	for _, w := range m.workers {
		m.lives.Go(w.live)
	}
	ticks := time.NewTicker(max(m.cfg.Take/4, time.Millisecond))
	defer ticks.Stop()
	var accepts sync.WaitGroup
	failed := make(chan error, len(doors))
	var err error
	ready := m.ready
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case err = <-failed:
			done = true
		case <-ticks.C:
			m.revokeStalled()
		case <-ready:
			ready = nil
			if err = m.startError(); err != nil {
				done = true
				break
			}
			for _, d := range doors {
				accepts.Go(func() {
					if err := d.accept(); err != nil {
						failed <- err
					}
				})
			}
		}
	}
	for _, d := range doors {
		d.close()
	}
	m.unlisten() // a client that comes now is refused at once
	m.stop()
	accepts.Wait()
	for _, d := range doors {
		d.release()
	}
	return err
}

func (m *Master) unlisten() {
	for _, ln := range m.cfg.Listeners {
		_ = ln.Close() // closing again says so
	}
}

// startError is why no worker could start, nil when one could.
func (m *Master) startError() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.workers {
		if w.state == ready {
			return nil
		}
	}
	if m.firstErr == nil {
		return errors.New("master: every worker ended at once")
	}
	return m.firstErr
}

// stop ends the workers: each is told, has the drain time and a moment more, and is killed then.
func (m *Master) stop() {
	if err := m.cfg.Step.At(handover.StepDrain); err != nil {
		m.cfg.Log.Error("master: stop", "err", err)
	}
	m.mu.Lock()
	m.stopping = true
	m.changed.Broadcast()
	waiting := m.waiting
	m.waiting = nil
	for _, w := range m.workers {
		w.tell(handover.KindDrain, &handover.Drain{Time: m.cfg.Drain})
	}
	m.mu.Unlock()
	for _, c := range waiting {
		c.end()
	}
	ended := make(chan struct{})
	go func() {
		m.lives.Wait()
		close(ended)
	}()
	late := time.NewTimer(m.cfg.Drain + killAfter)
	defer late.Stop()
	for {
		select {
		case <-ended:
			return
		case <-late.C:
			m.cfg.Log.Warn("master: workers did not end in time and are killed", "drain", m.cfg.Drain)
			m.Abort()
			late.Reset(time.Second)
		case <-time.After(max(m.cfg.Take/4, time.Millisecond)):
			m.revokeStalled()
		}
	}
}

// Abort kills the workers and starts no more.
func (m *Master) Abort() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopping = true
	m.changed.Broadcast()
	for _, w := range m.workers {
		w.kill()
	}
}

// firstStart counts a worker's first start, which succeeded when err is nil. Called with mu held.
func (m *Master) firstStart(w *worker, err error) {
	if w.begun {
		return
	}
	w.begun = true
	if err != nil && m.firstErr == nil {
		m.firstErr = err
	}
	if m.first--; m.first == 0 {
		close(m.ready)
	}
}

// StartError is what a worker said when it could not serve.
type StartError struct {
	Code int // an exit code
	Text string
}

func (e *StartError) Error() string { return e.Text }

func (w *worker) String() string { return fmt.Sprintf("worker %d", w.index) }
