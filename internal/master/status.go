//go:build linux

package master

import "ndferry/internal/handover"

// Status returns how things stand. PID is the caller's to set.
func (m *Master) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.counts
	s := Status{
		Since: m.started, Dispatch: m.cfg.Dispatch, Connections: m.load(), Waiting: len(m.waiting),
		Accepted: c.accepted, Offered: c.offered, Redispatched: c.redispatched, Revoked: c.revoked, Refused: c.refused,
		Returned: c.returned, Cut: c.cut, Workers: []WorkerStatus{},
	}
	times := m.past
	for _, w := range m.workers {
		ws := WorkerStatus{
			Worker: w.index, PID: w.pid, Generation: w.gen, State: w.stateText(), Restarts: w.restarts, Load: w.load(),
			Offered: w.counts.offered, Taken: w.counts.taken, Refused: w.counts.refused, Revoked: w.counts.revoked,
			Returned: w.counts.returned, Cut: w.counts.cut,
		}
		if w.words != nil {
			since := w.since
			ws.Since, ws.Connections = &since, w.words.Live()
			w.words.AddTo(&times)
		}
		s.Workers = append(s.Workers, ws)
	}
	s.P50, s.P99 = quantile(&times, 0.5), quantile(&times, 0.99)
	return s
}

func quantile(h *handover.Histogram, q float64) float64 { return h.Quantile(q).Seconds() }

func (w *worker) stateText() string {
	switch {
	case w.state == down:
		return "down"
	case w.state == starting:
		return "starting"
	case w.stalled:
		return "stalled"
	case w.draining || w.m.stopping:
		return "draining"
	}
	return "ready"
}
