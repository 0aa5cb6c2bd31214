//go:build linux || darwin || freebsd

package evloop

// merger joins the separate read and write events that kqueue reports for
// one descriptor. at remembers, by descriptor, where in this batch its Event
// is; the batch number tells a fresh entry from a stale one, so that nothing
// is cleared between batches.
type merger struct {
	batch uint32
	at    []struct {
		batch uint32
		index int32
	}
}

// begin starts a new batch.
func (m *merger) begin() { m.batch++ }

// add puts one filter's event into ev[:k] and returns the new k.
func (m *merger) add(ev []Event, k, fd int, ready Interest, hup bool) int {
	if fd >= len(m.at) {
		m.at = append(m.at, make([]struct {
			batch uint32
			index int32
		}, fd+1-len(m.at))...)
	}
	if m.at[fd].batch != m.batch {
		m.at[fd].batch, m.at[fd].index = m.batch, int32(k)
		ev[k] = Event{FD: int32(fd)}
		k++
	}
	e := &ev[m.at[fd].index]
	e.Ready |= ready
	e.Hup = e.Hup || hup
	return k
}
