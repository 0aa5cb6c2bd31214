package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/session"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/wire"
)

// slowDisk is a store whose uploads become durable when a test says so.
type slowDisk struct {
	store.Store
	begun chan struct{}
	goOn  chan error
}

func (s *slowDisk) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	u, r, err := s.Store.Begin(ctx, spec)
	if u != nil {
		u = &slowUpload{u, s}
	}
	return u, r, err
}

type slowUpload struct {
	store.Upload
	s *slowDisk
}

func (u *slowUpload) Sync(ctx context.Context) error {
	u.s.begun <- struct{}{}
	if err := <-u.s.goOn; err != nil {
		u.Upload.Discard()
		return err
	}
	return u.Upload.Sync(ctx)
}

// TestAckIsDurable holds a checkpoint up: no ACK says durable before it is over, and none does when it fails.
func TestAckIsDurable(t *testing.T) { eachDriver(t, ackIsDurable) }

func ackIsDurable(t *testing.T, driver string) {
	for _, failure := range []error{nil, errors.New("the disk has failed")} {
		s := &slowDisk{stores["dir"](t), make(chan struct{}), make(chan error)}
		_, addr := serve(t, s, Config{Driver: driver, Session: session.Config{Checkpoint: 16}})
		nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		p := newPeer(t, nc)
		u := newUpload(t, "a", 3)
		u.msg.Resume = true
		p.send(u.put(1))
		for f := p.next(); f.Kind != wire.Accept; f = p.next() {
			if f.Kind == wire.Fail || f.Kind == 0 {
				t.Fatalf("%v %s", f.Kind, f.Payload)
			}
		}
		p.send(u.chunk(1, 0))
		<-s.begun
		p.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: 1}, nil))
		if f := p.answer(); f.Kind != wire.Pong {
			t.Errorf("%v %d while the checkpoint runs", f.Kind, f.Index)
		}
		s.goOn <- failure
		f := p.next()
		for f.Kind == wire.Credit {
			f = p.next()
		}
		if failure == nil && (f.Kind != wire.Ack || f.Raw != wire.AckDurable || f.Index != 1) {
			t.Errorf("%v %d after the checkpoint, want ACK of 1 durable cell", f.Kind, f.Index)
		}
		if failure != nil && f.Kind != wire.Fail {
			t.Errorf("%v %d after a checkpoint that failed, want ERROR", f.Kind, f.Index)
		}
	}
}

// TestStoredDamage damages each file of stored arrays, in each way: verify names the file, and the chunk where it is one, and no damaged
// chunk is served as good.
func TestStoredDamage(t *testing.T) { eachDriver(t, storedDamage) }

func storedDamage(t *testing.T, driver string) {
	path := filepath.Join(t.TempDir(), "store")
	st, err := dir.Open(path, dir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, st, Config{Driver: driver})
	c := dial(t, addr)
	damages := map[string]func([]byte) []byte{
		"flip":   func(b []byte) []byte { b[len(b)/3] ^= 4; return b },
		"cut":    func(b []byte) []byte { return b[:len(b)-1] },
		"extend": func(b []byte) []byte { return append(b, 0) },
		"swap":   func(b []byte) []byte { copy(b[8:10], []byte{b[9], b[8]}); return b },
		"index":  func(b []byte) []byte { b[len(b)-12] ^= 1; return b },
	}
	n := 0
	for _, opts := range []client.PutOptions{{Codec: "none"}, {Codec: "zstd", Digest: client.SHA256}, {Codec: "lz4", Digest: client.CRC32C}} {
		opts.Cell = array.Shape{10, 100}
		x := ramp(t, 40, 100)
		if _, err := c.Put(t.Context(), "d/x", x, opts); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"c.0.0", ".ndferry", "zarr.json"} {
			full := filepath.Join(path, "zarr/d/x", file)
			whole, err := os.ReadFile(full)
			if err != nil {
				t.Fatal(err)
			}
			for how, damage := range damages {
				if err := os.WriteFile(full, damage(append([]byte(nil), whole...)), 0o666); err != nil {
					t.Fatal(err)
				}
				n++
				chunk := map[string]int{"flip": 1, "swap": 0, "index": 3}[how] // of the shard
				checkDamage(t, c, x, file, how, chunk, opts.Codec)
			}
			if err := os.WriteFile(full, whole, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := c.Verify(t.Context(), "d/x", nil); err != nil || r.BadCount > 0 {
			t.Errorf("restored: %+v, %v", r, err)
		}
	}
	t.Logf("damage %s: tried=%d reached=%d injected=%d failed=0 seed=0", driver, n, n, n)
}

func checkDamage(t *testing.T, c *client.Client, x client.Array, file, how string, chunk int, codec string) {
	t.Helper()
	r, err := c.Verify(t.Context(), "d/x", nil)
	if !errors.Is(err, client.ErrIntegrity) {
		t.Errorf("%s, %s of %s: verify: %v", codec, how, file, err)
		return
	}
	if codec != "none" {
		chunk = -1 // it lies where it came
	}
	named, inChunk := strings.Contains(err.Error(), "d/x/"+file), false
	if r != nil {
		for _, p := range r.Problems {
			named = named || strings.HasSuffix(p.File, "d/x/"+file)
			inChunk = inChunk || p.Cell == chunk || chunk < 0 && p.Cell >= 0
		}
	}
	if !named {
		t.Errorf("%s, %s of %s: verify does not name the file: %+v, %v", codec, how, file, r, err)
	}
	if file == "c.0.0" && how != "cut" && how != "extend" && !inChunk {
		t.Errorf("%s, %s of %s: verify does not name chunk %d: %+v", codec, how, file, chunk, r)
	}
	got, err := c.Get(t.Context(), "d/x", client.GetOptions{})
	if err == nil && string(got.Data) != string(x.Data) {
		t.Errorf("%s, %s of %s: served as good", codec, how, file)
	}
	if err != nil && !errors.Is(err, client.ErrIntegrity) {
		t.Errorf("%s, %s of %s: get: %v", codec, how, file, err)
	}
}

// ramp is an array that compresses.
func ramp(t *testing.T, shape ...int) client.Array {
	a := client.Array{DType: dtype(t, "<u4"), Shape: shape}
	n, err := a.Shape.Bytes(4)
	if err != nil {
		t.Fatal(err)
	}
	a.Data = make([]byte, n)
	for i := range a.Data {
		a.Data[i] = byte(i / 4 >> (8 * (i % 4)) * 3)
	}
	return a
}
