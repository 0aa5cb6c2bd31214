package session

import (
	"context"
	"sync"
	"time"

	"ndferry/store"
)

// A resumable PUT is made durable from time to time, so that a server that dies loses at most checkpointBytes that were sent on a connection:
// at the first cell that ends half of them, since as much more may be under way, by the credit that it gave (defaultWindow); or that comes
// checkpointTime after the last checkpoint.
const (
	checkpointBytes = 64 << 20
	checkpointTime  = 250 * time.Millisecond
)

// checkpoint is what came since the last one. Writes of one upload may run side by side, and Sync beside none of them.
type checkpoint struct {
	gate  sync.RWMutex // held for reading by a Write, for writing by a Sync
	every int          // bytes written between two; immutable

	mu      sync.Mutex
	at      time.Time // guarded by mu: of the last one, or of the beginning
	bytes   int       // guarded by mu: written since
	cells   int       // guarded by mu: written since
	durable int       // guarded by mu: cells
}

// Checkpoint makes bytes what is lost at most, of a connection with that much of credit or less in half of it, unless bytes is 0. It comes
// before the first operation.
func (e *Executor) Checkpoint(bytes int) {
	if bytes > 0 {
		e.every = max(bytes/2, 1)
	}
}

// store writes a cell.
func (u *upload) store(ctx context.Context, cell store.Cell, data []byte) error {
	u.point.gate.RLock()
	defer u.point.gate.RUnlock()
	return u.Write(ctx, cell, data)
}

// checkpoint counts n written bytes and makes all cells durable when it is time. It returns how many are, or 0 when it was not.
func (u *upload) checkpoint(ctx context.Context, n int, now time.Time) (durable int, err error) {
	p := &u.point
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += n
	p.cells++
	if !u.keep || p.bytes < p.every && now.Sub(p.at) < checkpointTime {
		return 0, nil
	}
	// Cells that are written and not counted yet become durable with these, and are counted with the next checkpoint.
	p.gate.Lock()
	err = u.Sync(ctx)
	p.gate.Unlock()
	if err != nil {
		return 0, err
	}
	p.at, p.bytes, p.durable, p.cells = now, 0, p.durable+p.cells, 0
	return p.durable, nil
}

// putAside makes everything that came durable and closes the upload, so that its client can take it up again. A store whose disk
// fails meanwhile has thrown the upload away, and the client begins again.
func (u *upload) putAside(ctx context.Context) error {
	if u.point.cells > 0 {
		if err := u.Sync(context.WithoutCancel(ctx)); err != nil {
			u.Discard()
			return err
		}
	}
	return u.Close()
}
