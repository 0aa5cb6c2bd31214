package dir_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

// pair is a store of which the calls go to two stores of one directory in turns.
type pair struct {
	of [2]*dir.Store
	n  atomic.Uint32
}

func openPair(t testing.TB, path string) *pair {
	t.Helper()
	p := &pair{}
	for i, owner := range []string{"a", "b"} {
		p.of[i] = open(t, path, dir.Config{Shared: true, Owner: owner, Log: quiet})
	}
	return p
}

func (p *pair) next() *dir.Store { return p.of[p.n.Add(1)%2] }

func (p *pair) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	return p.next().Begin(ctx, spec)
}
func (p *pair) Open(ctx context.Context, name string) (store.Array, error) {
	return p.next().Open(ctx, name)
}
func (p *pair) List(ctx context.Context, prefix, after string, limit int) ([]store.Info, bool, error) {
	return p.next().List(ctx, prefix, after, limit)
}
func (p *pair) Delete(ctx context.Context, name string) error { return p.next().Delete(ctx, name) }
func (p *pair) Instant() bool                                 { return false }
func (p *pair) Close() error                                  { return errors.Join(p.of[0].Close(), p.of[1].Close()) }

func TestStore_shared(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openPair(t, t.TempDir()+"/store") },
		storetest.Options{Durability: store.Durable, Resume: true})
}

// TestLock has one server of a directory, whose processes open it.
func TestLock(t *testing.T) {
	path := quickDir(t) + "/store"
	server, err := dir.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Lock(path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second server: error %v", err)
	}
	if _, err := dir.Open(path, dir.Config{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second server in one process: error %v", err)
	}
	p := openPair(t, path)
	defer p.Close()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	// The processes of a server that died go on beside the next one.
	s := open(t, path, dir.Config{})
	defer s.Close()
	x := small(t, "g/x", 1)
	x.Put(t, p)
	x.Check(t, s)
	y := small(t, "g/x", 2)
	y.Put(t, s)
	y.Check(t, p)
}

// TestOwner begins one transfer in two processes: the one that has it keeps it, and the other one takes it up when it is left.
func TestOwner(t *testing.T) {
	path := quickDir(t) + "/store"
	p := openPair(t, path)
	defer p.Close()
	a, b := p.of[0], p.of[1]
	x := small(t, "g/x", 1)
	x.Resume = true
	u, _, err := a.Begin(t.Context(), x.Spec)
	if err != nil {
		t.Fatal(err)
	}
	busy := func(s *dir.Store, owner string, epoch uint64) {
		t.Helper()
		_, _, err := s.Begin(t.Context(), x.Spec)
		o, ok := errors.AsType[*store.OwnedError](err)
		if !ok || !errors.Is(err, store.ErrBusy) || o.Owner != owner || o.Epoch != epoch || o.ID != x.ID {
			t.Errorf("Begin in another process: error %v (%+v), want owner %s and epoch %d", err, o, owner, epoch)
		}
	}
	busy(b, "a", 1)
	if _, _, err := a.Begin(t.Context(), x.Spec); !errors.Is(err, store.ErrBusy) || errors.As(err, new(*store.OwnedError)) {
		t.Errorf("Begin in the same process: error %v", err)
	}
	for i := range 2 {
		if err := u.Write(t.Context(), x.Info[i], x.Cells[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	busy(b, "a", 1)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if u, _, err = b.Begin(t.Context(), x.Spec); err != nil {
		t.Fatal(err)
	}
	if d := u.Durable(); len(d) != 1 || d[0] != (store.Range{First: 0, Count: 2}) {
		t.Errorf("durable %v", d)
	}
	busy(a, "b", 2)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	// One that begins anew has a higher epoch, too.
	x.Resume = false
	if u, _, err = a.Begin(t.Context(), x.Spec); err != nil {
		t.Fatal(err)
	}
	busy(b, "a", 3)
	if err := u.Discard(); err != nil {
		t.Fatal(err)
	}
	r := x.Put(t, b)
	if got := x.Put(t, a); got != r {
		t.Errorf("receipt %+v, want %+v", got, r)
	}
}

// TestAbandonedUploads_shared lets one process's time for an upload run out while another one has it, and after that one left it.
func TestAbandonedUploads_shared(t *testing.T) {
	path := quickDir(t)
	wall, up := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Duration(0)
	config := dir.Config{Shared: true, Log: quiet, Now: func() time.Time { return wall }, Uptime: func() time.Duration { return up }}
	a := open(t, path, config)
	defer a.Close()
	b := open(t, path, config)
	defer b.Close()
	x := small(t, "g/x", 1)
	x.Resume = true
	begin := func(s *dir.Store, cell int) store.Upload {
		t.Helper()
		u, _, err := s.Begin(t.Context(), x.Spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Write(t.Context(), x.Info[cell], x.Cells[cell]); err != nil {
			t.Fatal(err)
		}
		if err := u.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		return u
	}
	begin(a, 0).Close()
	seed := uint64(1)
	later := func(s *dir.Store, hours time.Duration) {
		up, wall = up+hours*time.Hour, wall.Add(hours*time.Hour)
		seed++
		small(t, "g/y", seed).Put(t, s)
	}
	u := begin(b, 1)
	later(a, 50)
	if err := u.Write(t.Context(), x.Info[2], x.Cells[2]); err != nil {
		t.Fatal(err)
	}
	if err := u.Sync(t.Context()); err != nil {
		t.Fatalf("an upload that another process has was taken: %v", err)
	}
	u.Close()
	later(a, 50) // seen 50 hours ago, but it has moved since
	if u, _, err := a.Begin(t.Context(), x.Spec); err != nil || len(u.Durable()) != 1 || u.Durable()[0].Count != 3 {
		t.Fatalf("an upload that another process left was removed early: error %v", err)
	} else {
		u.Close()
	}
	later(a, 50)
	u, _, err := b.Begin(t.Context(), x.Spec)
	if err != nil || len(u.Durable()) > 0 {
		t.Errorf("after 50 hours that nobody had it: error %v", err)
	}
	u.Discard()
}
