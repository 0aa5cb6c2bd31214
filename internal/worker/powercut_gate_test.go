//go:build gate && linux

package worker

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/dir"
	"ndferry/wire"
)

var (
	cutTime  = flag.Duration("powercut-time", 25*time.Second, "how long the power is cut, for each file system")
	cutCount = flag.Int("powercuts", 0, "cuts for each file system, instead of -powercut-time")
	cutSeed  = flag.Uint64("powercut-seed", 1, "seed of TestGatePowerCut")
)

// FS_IOC_SHUTDOWN and its mode that drops what the journal holds in memory, as xfstests uses them: the file system is left on its device
// as a power cut would leave it.
const (
	ioctlShutdown   = 0x8004587d
	withoutLogFlush = 2
)

// TestGatePowerCut cuts the power under a server with load, on real file systems, and starts again: every array that was
// acknowledged is there bit for bit, and nothing else that was not asked for, whole.
func TestGatePowerCut(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) { newGrid(t, kind).run() })
	}
}

// grid is a disk whose power fails.
type grid struct {
	t            *testing.T
	image, mount string
	socket       string
	rng          *rand.Rand // owned by the test's goroutine
	seed         uint64     // of the next array, guarded by mu

	mu      sync.Mutex
	acked   map[string]uint64   // guarded by mu: by name the seed of what it must hold; 0: nothing
	maybe   map[string][]uint64 // guarded by mu: what was asked for since and not answered; 0: its removal
	dark    bool                // guarded by mu: the power is going; with a real one nobody would hear an answer any more
	acks    int                 // guarded by mu
	checked int
}

func newGrid(t *testing.T, kind string) *grid {
	tmp := t.TempDir()
	base := tmp
	if _, err := os.Stat("/dev/shm"); err == nil {
		if base, err = os.MkdirTemp("/dev/shm", "ndferry-power-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(base) })
	}
	g := &grid{
		t: t, image: filepath.Join(base, "image"), mount: filepath.Join(tmp, "mnt"), socket: filepath.Join(tmp, "s"),
		rng: rand.New(rand.NewPCG(*cutSeed, 0)), acked: map[string]uint64{}, maybe: map[string][]uint64{},
	}
	if err := os.Mkdir(g.mount, 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(g.image)
	if err == nil {
		err = errors.Join(f.Truncate(320<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	g.command("mkfs."+kind, "-q", g.image)
	return g
}

func (g *grid) command(name string, args ...string) {
	g.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		g.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

func (g *grid) run() {
	begin, cuts, reached := time.Now(), 0, 0
	for !g.t.Failed() && (*cutCount > 0 && cuts < *cutCount || *cutCount == 0 && time.Since(begin) < *cutTime) {
		cuts++
		if g.round() {
			reached++
		}
	}
	g.command("mount", "-o", "loop", g.image, g.mount)
	st := g.open()
	g.check(st)
	if err := st.Close(); err != nil {
		g.t.Error(err)
	}
	g.command("umount", g.mount)
	if reached < cuts/2 {
		g.t.Errorf("only %d of %d cuts had something under way", reached, cuts)
	}
	if g.t.Failed() {
		return
	}
	g.t.Logf("powercut %s: tried=%d reached=%d injected=%d failed=0 seed=%d (%d acknowledged, %d arrays compared, %v)",
		filepath.Base(g.t.Name()), cuts, reached, cuts, *cutSeed, g.acks, g.checked, time.Since(begin).Round(time.Second))
}

func (g *grid) open() *dir.Store {
	g.t.Helper()
	st, err := dir.Open(filepath.Join(g.mount, "store"), dir.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		g.t.Fatal(err)
	}
	return st
}

// round starts the server, checks what it has, lets writers work, and cuts the power. It tells whether something was under way then.
func (g *grid) round() bool {
	g.command("mount", "-o", "loop", g.image, g.mount)
	disk, err := os.Open(g.mount)
	if err != nil {
		g.t.Fatal(err)
	}
	st := g.open()
	g.check(st)
	os.Remove(g.socket)
	ln, err := net.Listen("unix", g.socket)
	if err != nil {
		g.t.Fatal(err)
	}
	srv := New(st, Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	go srv.Serve(ln)
	ctx, cancel := context.WithCancel(g.t.Context())
	var writers, greeted sync.WaitGroup
	greeted.Add(4)
	for w := range 4 {
		rng := rand.New(rand.NewPCG(*cutSeed, g.rng.Uint64()))
		writers.Go(func() { g.write(ctx, rng, w, greeted.Done) })
	}
	greeted.Wait()
	time.Sleep(time.Duration(g.rng.IntN(40_000)) * time.Microsecond) // the moment is random: nothing is waited for
	g.setDark(true)
	if err := unix.IoctlSetPointerInt(int(disk.Fd()), ioctlShutdown, withoutLogFlush); err != nil {
		g.t.Fatalf("cut the power: %v", err)
	}
	cancel()
	writers.Wait()
	gone, done := context.WithTimeout(context.Background(), patience)
	defer done()
	if err := srv.Shutdown(gone); err != nil {
		g.t.Errorf("shutdown: %v", err)
	}
	st.Close() // its disk is gone
	disk.Close()
	g.command("umount", g.mount)
	g.setDark(false)
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.maybe) > 0
}

func (g *grid) setDark(dark bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dark = dark
}

// write puts and deletes arrays of its own until the power is gone, from when it is connected on.
func (g *grid) write(ctx context.Context, rng *rand.Rand, w int, greeted func()) {
	c, err := client.Dial(ctx, "unix://"+g.socket, client.Config{})
	greeted()
	if err != nil {
		g.t.Error(err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		name := fmt.Sprintf("g%d/%d", w, rng.IntN(4))
		g.mu.Lock()
		g.seed++
		seed := g.seed
		remove := g.acked[name] != 0 && len(g.maybe[name]) == 0 && rng.IntN(5) == 0
		if remove {
			seed = 0
		}
		g.maybe[name] = append(g.maybe[name], seed)
		g.mu.Unlock()
		if remove {
			err = c.Delete(ctx, name)
		} else {
			_, err = c.Put(ctx, name, content(seed), client.PutOptions{ID: transferID(seed), ChunkBytes: 32 << 10, Digest: client.SHA256, Resume: true})
		}
		if err != nil {
			return
		}
		if !g.acknowledge(name, seed) {
			return
		}
	}
}

// acknowledge notes an answer, unless the power went before it was heard: on xfs fsync of a directory may succeed after the cut.
func (g *grid) acknowledge(name string, seed uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dark {
		return false
	}
	g.acked[name] = seed
	g.acks++
	delete(g.maybe, name)
	return true
}

func transferID(seed uint64) (id wire.ID) {
	for i := range 8 {
		id[i] = byte(seed >> (8 * i))
	}
	id[15] = 1
	return id
}

// content is the array of that seed.
func content(seed uint64) client.Array {
	rng := rand.New(rand.NewPCG(seed, 99))
	a := client.Array{Shape: array.Shape{1 + rng.IntN(100_000)}}
	a.DType, _ = array.ParseDType("|u1")
	a.Data = make([]byte, a.Shape[0])
	for i := range a.Data {
		a.Data[i] = byte(rng.Uint32())
	}
	return a
}

// check compares the store with what was acknowledged, and takes what it has as the truth from here on.
func (g *grid) check(st *dir.Store) {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := map[string]bool{}
	for name := range g.acked {
		names[name] = true
	}
	for name := range g.maybe {
		names[name] = true
	}
	list, _, err := st.List(g.t.Context(), "", "", 1000)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, i := range list {
		if names[i.Name] = true; i.ID[15] != 1 {
			g.t.Errorf("%s: nobody has put transfer %x", i.Name, i.ID)
		}
	}
	srv := New(st, Config{})
	near, far := net.Pipe()
	srv.ServeConn(far)
	c, err := client.New(g.t.Context(), near, client.Config{})
	if err != nil {
		g.t.Fatal(err)
	}
	for name := range names {
		g.checkName(c, name)
	}
	clear(g.maybe)
	c.Close()
	if err := srv.Shutdown(g.t.Context()); err != nil {
		g.t.Error(err)
	}
}

func (g *grid) checkName(c *client.Client, name string) {
	allowed := append([]uint64{g.acked[name]}, g.maybe[name]...)
	got, err := c.Get(g.t.Context(), name, client.GetOptions{})
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		g.t.Errorf("%s: %v", name, err)
		return
	}
	for _, seed := range allowed {
		if seed == 0 && err != nil || seed != 0 && err == nil && bytes.Equal(got.Data, content(seed).Data) {
			g.acked[name] = seed
			g.checked++
			return
		}
	}
	g.t.Errorf("%s: acknowledged is transfer %d, asked for since %v, and it is found %v with error %v", name, g.acked[name], g.maybe[name], got != nil, err)
}
