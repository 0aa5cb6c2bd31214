package session

import (
	"context"
	"testing"
	"time"

	"ndferry/store"
)

// syncs is an upload that counts what is made durable.
type syncs struct {
	store.Upload
	n int
}

func (s *syncs) Sync(context.Context) error { s.n++; return nil }

// TestCheckpoint counts the checkpoints of cells that come at given times: one at the first cell that completes 32 MiB since the last, or that
// comes 250 ms after it, and none of a PUT that is not to be resumed.
func TestCheckpoint(t *testing.T) {
	const mib = 1 << 20
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	type cell struct{ bytes, ms, durable int }
	for _, c := range []struct {
		name  string
		plain bool
		cells []cell
	}{
		{"bytes", false, []cell{{31 * mib, 1, 0}, {mib - 1, 2, 0}, {1, 3, 3}, {31 * mib, 4, 0}, {mib, 5, 5}}},
		{"time", false, []cell{{1, 249, 0}, {1, 250, 2}, {1, 499, 0}, {1, 500, 4}, {1, 2000, 5}}},
		{"no resume", true, []cell{{64 * mib, 1, 0}, {1, 5000, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			count := &syncs{}
			u := &upload{Upload: count, keep: !c.plain}
			u.point.at, u.point.every = start, NewExecutor(t.Context(), nil, nil).every
			want := 0
			for i, x := range c.cells {
				if x.durable > 0 {
					want++
				}
				durable, err := u.checkpoint(t.Context(), x.bytes, at(x.ms))
				if err != nil || durable != x.durable || count.n != want {
					t.Errorf("cell %d: %d durable, %d syncs, error %v; want %d and %d", i, durable, count.n, err, x.durable, want)
				}
			}
		})
	}
}
