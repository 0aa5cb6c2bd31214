package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"ndferry/store"
)

// Owners knows which executor has a transfer open, so that a client that lost its connection need not wait until the server
// notices: of a resumable transfer the newest connection wins, and the older one is ended (spec/WIRE.md §5.1); and so that further
// connections find the upload that they join. Safe for several goroutines; the zero value is ready, and a nil *Owners knows nobody.
type Owners struct {
	mu sync.Mutex
	of map[store.ID]owner // guarded by mu
}

type owner struct {
	u    *upload
	e    *Executor
	gone chan struct{} // closed when the executor has let go
}

// fenceTime is how long the older connection may take to let go of a transfer.
const fenceTime = 5 * time.Second

// beginTries is how often a transfer that is busy is asked for while those who have it let go.
const beginTries = 3

// Share makes the executor one of those that o knows. kick must end its connection, and may be called from any goroutine.
func (e *Executor) Share(o *Owners, kick func()) { e.owners, e.kick = o, kick }

// claim makes e the owner of an open transfer.
func (o *Owners) claim(id store.ID, e *Executor, u *upload) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = map[store.ID]owner{}
	}
	o.of[id] = owner{e: e, u: u, gone: make(chan struct{})}
}

// release tells that e has let go of a transfer.
func (o *Owners) release(id store.ID, e *Executor) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if w, ok := o.of[id]; ok && w.e == e {
		close(w.gone)
		delete(o.of, id)
	}
}

// hosted returns the upload of an open transfer, nil when it is not open.
func (o *Owners) hosted(id store.ID) *upload {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.of[id].u
}

// fence ends the connection that has the transfer open and waits until it let go. It tells whether another attempt is worth it.
func (o *Owners) fence(ctx context.Context, id store.ID, e *Executor) bool {
	if o == nil {
		return false
	}
	o.mu.Lock()
	w, ok := o.of[id]
	o.mu.Unlock()
	if !ok {
		return true // it let go since the store was asked
	}
	if w.e == e || w.e.kick == nil || !w.u.spec.Resume {
		return false
	}
	w.e.kick()
	late := time.NewTimer(fenceTime)
	defer late.Stop()
	select {
	case <-w.gone:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// beginOwned opens the upload of a PUT. One with Resume takes it from an older connection, or from the next older one that was quicker.
func (e *Executor) beginOwned(ctx context.Context, spec *store.Spec) (up store.Upload, receipt *store.Receipt, err error) {
	for range beginTries {
		up, receipt, err = e.store.Begin(ctx, *spec)
		if !spec.Resume || !errors.Is(err, store.ErrBusy) || !e.owners.fence(ctx, spec.ID, e) {
			break
		}
	}
	return up, receipt, err
}
