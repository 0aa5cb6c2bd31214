package worker

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store"
	"ndferry/store/mem"
)

// pairing is a store in which each Write waits until there were two at once.
type pairing struct {
	store.Store
	in   atomic.Int32
	once sync.Once
	met  chan struct{} // closed then
}

// Begin implements store.Store.
func (s *pairing) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	u, r, err := s.Store.Begin(ctx, spec)
	if u == nil {
		return u, r, err
	}
	return &paired{u, s}, r, err
}

type paired struct {
	store.Upload
	s *pairing
}

// Write implements store.Upload.
func (u *paired) Write(ctx context.Context, c store.Cell, data []byte) error {
	defer u.s.in.Add(-1)
	if u.s.in.Add(1) > 1 {
		u.s.once.Do(func() { close(u.s.met) })
	}
	select {
	case <-u.s.met:
	case <-time.After(5 * time.Second):
	}
	return u.Upload.Write(ctx, c, data)
}

// TestHashedBeside puts an array with digest sha256, of whose cells two are hashed and written side by side.
func TestHashedBeside(t *testing.T) { eachDriver(t, hashedBeside) }

func hashedBeside(t *testing.T, driver string) {
	if n := runtime.GOMAXPROCS(0); n < 2 {
		runtime.GOMAXPROCS(2)
		t.Cleanup(func() { runtime.GOMAXPROCS(n) })
	}
	st := &pairing{Store: mem.New(mem.Config{}), met: make(chan struct{})}
	_, addr := serve(t, st, Config{Driver: driver})
	const cell = 512 << 10
	a := client.Array{DType: dtype(t, "|u1"), Shape: array.Shape{4 * cell}, Data: varied(4 * cell)}
	c := dial(t, addr)
	r, err := c.Put(t.Context(), "a", a, client.PutOptions{Cell: array.Shape{cell}, Digest: client.SHA256, Codec: "none"})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-st.met:
	default:
		t.Error("cells were hashed and written one by one")
	}
	if r.Cells != 4 || r.Root == "" {
		t.Errorf("receipt %+v", r)
	}
	got, err := c.Get(t.Context(), "a", client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Data) != string(a.Data) {
		t.Error("another array came back")
	}
}
