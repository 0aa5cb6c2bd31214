package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/mem"
	"ndferry/wire"
)

// patience is for what must happen: it bounds a test that hangs, and judges nothing.
const patience = time.Minute

// eachLimit runs a test with a limit of time that its own goroutines must keep, which a machine that is busy elsewhere may not let them: it passes
// under one of the limits, of which the last is long enough for any such pause. What the server does wrong it does under each.
func eachLimit(t *testing.T, shortest time.Duration, test func(limit time.Duration) error) {
	t.Helper()
	for limit, times := shortest, 0; ; limit, times = 5*limit, times+1 {
		err := test(limit)
		if err == nil {
			return
		}
		if t.Logf("with a limit of %v: %v", limit, err); times == 2 {
			t.Fatal(err)
		}
	}
}

// drivers are what every test of a conversation runs under.
var drivers = []string{LoopDriver, GoroutineDriver}

// eachDriver runs a test under every driver.
func eachDriver(t *testing.T, test func(t *testing.T, driver string)) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			audit(t)
			test(t, driver)
		})
	}
}

// stores are the back ends that the server is tested over.
var stores = map[string]func(t testing.TB) store.Store{
	"mem": func(t testing.TB) store.Store { return mem.New(mem.Config{}) },
	"dir": func(t testing.TB) store.Store {
		st, err := dir.Open(filepath.Join(t.TempDir(), "store"), dir.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return st
	},
}

// serve runs a server on a Unix socket until the test ends, and returns its address.
func serve(t testing.TB, st store.Store, cfg Config) (*Server, string) {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	if cfg.Session.Handshake == 0 {
		cfg.Session.Handshake = patience // a test that is held up has not been silent
	}
	srv := New(st, cfg)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, srv, st, ln)
	return srv, "unix://" + path
}

// serveOn runs a server on a listener until the test ends or end is called, which closes the store, too.
func serveOn(t testing.TB, srv *Server, st store.Store, ln net.Listener) (end func()) {
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	end = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		if err := st.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	t.Cleanup(end)
	return end
}

// testLog writes what the server logs to the test's log.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

func dial(t testing.TB, addr string) *client.Client {
	t.Helper()
	c, err := client.Dial(context.Background(), addr, client.Config{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func dtype(t testing.TB, s string) array.DType {
	t.Helper()
	d, err := array.ParseDType(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// random is an array of random bytes, which are every kind of number, NaN payloads and signed zeros included.
func random(t testing.TB, rng *rand.Rand, dt string, shape array.Shape, order array.Order) client.Array {
	t.Helper()
	a := client.Array{DType: dtype(t, dt), Shape: shape, Order: order}
	n, err := shape.Bytes(a.DType.ItemSize())
	if err != nil {
		t.Fatal(err)
	}
	a.Data = make([]byte, n)
	for i := range a.Data {
		a.Data[i] = byte(rng.Uint32())
		if dt == "|b1" {
			a.Data[i] &= 1
		}
	}
	return a
}

// varied is memory that is no constant array, which would not travel.
func varied(n int) []byte {
	p := make([]byte, n)
	p[0] = 1
	return p
}

// TestRoundTrip carries every dtype, order and class of shape through the server and back.
func TestRoundTrip(t *testing.T) { eachDriver(t, testRoundTrip) }

func testRoundTrip(t *testing.T, driver string) {
	dtypes := []string{"|b1", "|i1", "|u1", "<i2", ">i2", "<u2", ">u4", "<i4", "<i8", ">u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c16"}
	shapes := []array.Shape{{}, {0}, {3, 0, 2}, {1}, {1000}, {2, 10007}, {64, 33}, {5, 1, 1, 7, 30}}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, open(t), Config{Driver: driver})
			c := dial(t, addr)
			ctx := context.Background()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			for i, dt := range dtypes {
				for j, shape := range shapes {
					if (i+j)%4 != 0 && name == "dir" { // each dtype and each shape, not each pair: commits wait for the disk
						continue
					}
					order := array.COrder(len(shape))
					rng.Shuffle(len(order), func(i, k int) { order[i], order[k] = order[k], order[i] })
					a := random(t, rng, dt, shape, order)
					opts := client.PutOptions{ChunkBytes: 1 << (5 + rng.IntN(13)), Attributes: []byte(`{"i": 10000000000000000000001}`)}
					opts.ChunkBytes = max(opts.ChunkBytes, a.DType.ItemSize())
					if rng.IntN(2) == 0 {
						opts.Digest = client.SHA256
					}
					what := fmt.Sprintf("%s %v %v chunk %d %s", dt, shape, order, opts.ChunkBytes, opts.Digest)
					r, err := c.Put(ctx, "x/y", a, opts)
					if err != nil {
						t.Fatalf("%s: put: %v", what, err)
					}
					if r.Bytes != int64(len(a.Data)) || r.Name != "x/y" {
						t.Fatalf("%s: receipt %+v", what, r)
					}
					b, err := c.Get(ctx, "x/y", client.GetOptions{})
					if err != nil {
						t.Fatalf("%s: get: %v", what, err)
					}
					if !b.DType.Equal(a.DType) || !b.Shape.Equal(a.Shape) || !bytes.Equal(a.Data, b.Data) {
						t.Fatalf("%s: came back as %v %v %v", what, b.DType, b.Shape, b.Order)
					}
					st, err := c.Stat(ctx, "x/y")
					if err != nil || string(st.Attributes) != string(opts.Attributes) || st.Root != r.Root {
						t.Fatalf("%s: stat %+v, %v", what, st, err)
					}
				}
			}
			if rep, err := c.Verify(ctx, "x/y", nil); err != nil {
				t.Fatalf("verify: %+v, %v", rep, err)
			}
		})
	}
}

// TestManyClients has clients write, read, list and delete beside each other; what one reads is always one whole array of one writer.
func TestManyClients(t *testing.T) { eachDriver(t, testManyClients) }

func testManyClients(t *testing.T, driver string) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, open(t), Config{Driver: driver})
			var wg sync.WaitGroup
			for w := range 6 {
				wg.Go(func() {
					c, err := client.Dial(context.Background(), addr, client.Config{})
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					if err := work(c, byte(w), 12); err != nil {
						t.Errorf("client %d: %v", w, err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// work stores arrays whose bytes are all the writer's number under names that others use too.
func work(c *client.Client, w byte, rounds int) error {
	ctx := context.Background()
	dt, err := array.ParseDType("|u1")
	if err != nil {
		return err
	}
	for i := range rounds {
		name := fmt.Sprintf("shared/%d", i%3)
		a := client.Array{DType: dt, Shape: array.Shape{60000}, Data: bytes.Repeat([]byte{w}, 60000)}
		if _, err := c.Put(ctx, name, a, client.PutOptions{ChunkBytes: 15000}); err != nil {
			return err
		}
		b, err := c.Get(ctx, name, client.GetOptions{})
		if errors.Is(err, client.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if n := bytes.Count(b.Data, b.Data[:1]); n != len(b.Data) {
			return fmt.Errorf("%s: %d bytes of one writer, %d of others", name, n, len(b.Data)-n)
		}
		if i%5 == 4 {
			if err := c.Delete(ctx, name); err != nil && !errors.Is(err, client.ErrNotFound) {
				return err
			}
		}
		if _, err := c.List(ctx, "shared/"); err != nil {
			return err
		}
	}
	return nil
}

// TestClientErrors checks that a refused call leaves the connection usable.
func TestClientErrors(t *testing.T) { eachDriver(t, testClientErrors) }

func testClientErrors(t *testing.T, driver string) {
	_, addr := serve(t, mem.New(mem.Config{Limit: 64 << 20}), Config{Driver: driver})
	c := dial(t, addr)
	ctx := context.Background()
	small := random(t, rand.New(rand.NewPCG(1, 1)), "<f4", array.Shape{1000}, nil)
	huge := client.Array{DType: small.DType, Shape: array.Shape{30 << 20}, Data: varied(120 << 20)}
	if _, err := c.Put(ctx, "a", small, client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		call func() error
		want error
	}{
		{"get nothing", func() error { _, err := c.Get(ctx, "nothing", client.GetOptions{}); return err }, client.ErrNotFound},
		{"stat nothing", func() error { _, err := c.Stat(ctx, "nothing"); return err }, client.ErrNotFound},
		{"delete nothing", func() error { return c.Delete(ctx, "nothing") }, client.ErrNotFound},
		{"verify nothing", func() error { _, err := c.Verify(ctx, "nothing", nil); return err }, client.ErrNotFound},
		{"put if absent", func() error { _, err := c.Put(ctx, "a", small, client.PutOptions{IfAbsent: true}); return err }, client.ErrConflict},
		{"put below an array", func() error { _, err := c.Put(ctx, "a/b", small, client.PutOptions{}); return err }, client.ErrConflict},
		{"put too much", func() error { _, err := c.Put(ctx, "huge", huge, client.PutOptions{}); return err }, client.ErrNoSpace},
		{"put a bad name", func() error { _, err := c.Put(ctx, "../a", small, client.PutOptions{}); return err }, client.ErrInvalid},
		{"put a bad digest", func() error { _, err := c.Put(ctx, "b", small, client.PutOptions{Digest: "md5"}); return err }, client.ErrInvalid},
		{"put a source that fails", func() error {
			_, err := c.PutFrom(ctx, "b", &failing{small}, client.PutOptions{ChunkBytes: 400})
			return err
		}, io.ErrUnexpectedEOF},
		{"get into too little", func() error { _, err := c.Get(ctx, "a", client.GetOptions{Into: make([]byte, 5)}); return err }, client.ErrInvalid},
	}
	for _, test := range tests {
		err := test.call()
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if _, err := c.Ping(ctx); err != nil {
			t.Fatalf("%s: and then ping: %v", test.name, err)
		}
	}
	if list, err := c.List(ctx, ""); err != nil || len(list) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
}

// failing is a source that ends in the middle.
type failing struct{ client.Array }

func (f *failing) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	if i == 3 {
		return nil, io.ErrUnexpectedEOF
	}
	return f.Array.Cell(g, i, buf)
}

// TestContext ends a call that waits for a server which never answers.
func TestContext(t *testing.T) {
	audit(t)
	near, far := net.Pipe()
	defer far.Close()
	go io.Copy(io.Discard, far)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := client.New(ctx, near, client.Config{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	near, far2 := net.Pipe()
	defer far2.Close()
	go io.Copy(io.Discard, far2)
	if _, err := client.New(context.Background(), near, client.Config{Timeout: 20 * time.Millisecond}); err == nil {
		t.Error("a silent server was waited for")
	}
}

// TestShutdown lets a transfer in flight finish, closes idle clients, and refuses what is new.
func TestShutdown(t *testing.T) { eachDriver(t, testShutdown) }

func testShutdown(t *testing.T, driver string) {
	st := mem.New(mem.Config{})
	srv := New(st, Config{Driver: driver})
	near, far := sockets(t)
	srv.ServeConn(far)
	raw := newPeer(t, near)
	a := newUpload(t, "a", 1)
	raw.send(a.put(1), a.chunk(1, 0))
	raw.ping()
	idle, idleFar := sockets(t)
	srv.ServeConn(idleFar)
	idlePeer := newPeer(t, idle)
	idlePeer.ping()
	done := make(chan error, 1)
	go func() { done <- srv.Shutdown(context.Background()) }()
	idlePeer.wantGoAway()
	idlePeer.wantEnd()
	raw.wantGoAway()
	raw.send(a.chunk(1, 1), a.finish(1))
	if f := raw.answer(); f.Kind != wire.Receipt {
		t.Errorf("in flight: %v %s", f.Kind, f.Payload)
	}
	raw.wantEnd()
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

// TestShutdownForced tells a transfer that does not finish in time to try again.
func TestShutdownForced(t *testing.T) { eachDriver(t, testShutdownForced) }

func testShutdownForced(t *testing.T, driver string) {
	st := mem.New(mem.Config{})
	srv := New(st, Config{Driver: driver})
	near, far := sockets(t)
	srv.ServeConn(far)
	raw := newPeer(t, near)
	a := newUpload(t, "a", 1)
	raw.send(a.put(1), a.chunk(1, 0))
	raw.ping()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	go func() {
		if err := srv.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("shutdown: %v", err)
		}
		st.Close()
	}()
	raw.wantGoAway()
	raw.wantError(wire.CodeShutdown)
	raw.wantEnd()
}
