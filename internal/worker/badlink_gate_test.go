//go:build gate && linux

package worker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/array"
	"ndferry/client"
	"ndferry/wire"
)

var (
	badBytes = flag.Int("badlink-bytes", 256<<20, "how many bytes of arrays TestGateBadLink moves, half each way")
	badSeed  = flag.Uint64("badlink-seed", 1, "seed of TestGateBadLink")
)

// namespace is a network namespace with one TUN device. Its goroutine keeps to a thread that is in it.
type namespace struct {
	tun *os.File
	do  chan func()
}

func newNamespace(t testing.TB, address string) *namespace {
	t.Helper()
	n := &namespace{do: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		made <- n.make(address)
		for f := range n.do {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatalf("a network namespace with a TUN device: %v", err)
	}
	t.Cleanup(func() { close(n.do) })
	return n
}

func (n *namespace) make(address string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq("bad0")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	n.tun = os.NewFile(uintptr(fd), "bad0")
	for _, args := range [][]string{{"addr", "add", address + "/24", "dev", "bad0"}, {"link", "set", "bad0", "mtu", fmt.Sprint(badMTU), "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %q: %w: %s", args, err, out)
		}
	}
	return nil
}

// run has f run in the namespace: sockets that it makes are there.
func (n *namespace) run(f func()) {
	done := make(chan struct{})
	n.do <- func() { f(); close(done) }
	<-done
}

// What a bad link does to packets, each with a chance of one in so many.
const (
	badMTU     = 4000
	badDrop    = 500
	badRepeat  = 500
	badDelay   = 200 // by up to 10 ms: behind those that come after it
	badSwap    = 300 // two words of the payload of TCP, whose checksum is a sum and so the same
	badSmall   = 200 // bytes of a packet that is never damaged
	badLongest = 10 * time.Millisecond
)

// badLink carries packets from one TUN device to another.
type badLink struct {
	rng                               *rand.Rand // owned by carry
	dropped, repeated, delayed, swaps atomic.Int64
	mu                                sync.Mutex // of writes and timers
	ended                             bool       // guarded by mu
}

func (l *badLink) carry(to, from *os.File) {
	packet := make([]byte, 1<<16)
	for {
		n, err := from.Read(packet)
		if err != nil {
			l.mu.Lock()
			l.ended = true
			l.mu.Unlock()
			return
		}
		p := packet[:n]
		if l.rng.IntN(badDrop) == 0 {
			l.dropped.Add(1)
			continue
		}
		if l.rng.IntN(badSwap) == 0 && l.swap(p) {
			l.swaps.Add(1)
		}
		if l.rng.IntN(badRepeat) == 0 {
			l.repeated.Add(1)
			l.write(to, p)
		}
		if l.rng.IntN(badDelay) > 0 {
			l.write(to, p)
			continue
		}
		l.delayed.Add(1)
		late := bytes.Clone(p)
		time.AfterFunc(time.Duration(l.rng.Int64N(int64(badLongest))), func() { l.write(to, late) })
	}
}

func (l *badLink) write(to *os.File, p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		to.Write(p) // a full queue drops it, as any link does
	}
}

// swap changes the places of two 16-bit words that differ.
func (l *badLink) swap(p []byte) bool {
	if len(p) < badSmall || p[0]>>4 != 4 || p[9] != unix.IPPROTO_TCP {
		return false
	}
	head := int(p[0]&15) * 4
	head += int(p[head+12]>>4) * 4
	words := (len(p) - head) / 2
	if words < badSmall/2 {
		return false
	}
	for range 10 {
		a, b := p[head+2*l.rng.IntN(words):][:2], p[head+2*l.rng.IntN(words):][:2]
		if x, y := binary.NativeEndian.Uint16(a), binary.NativeEndian.Uint16(b); x != y {
			binary.NativeEndian.PutUint16(a, y)
			binary.NativeEndian.PutUint16(b, x)
			return true
		}
	}
	return false
}

// counted counts the frames of a connection: cells that went out and came in, and those that were asked for again.
type counted struct {
	net.Conn
	up, down                      wireCount
	chunksUp, chunksDown, resends int
	gets, asked                   int
}

// wireCount finds frames in a stream.
type wireCount struct {
	head []byte
	left int
	lost bool // a damaged header
	last wire.Header
	body []byte // of a GET
}

func (w *wireCount) feed(p []byte, whole func(wire.Header, []byte)) {
	for len(p) > 0 && !w.lost {
		if w.left > 0 {
			n := min(w.left, len(p))
			if w.last.Kind == wire.Get {
				w.body = append(w.body, p[:n]...)
			}
			if w.left -= n; w.left == 0 {
				whole(w.last, w.body)
			}
			p = p[n:]
			continue
		}
		n := min(wire.HeaderSize-len(w.head), len(p))
		w.head = append(w.head, p[:n]...)
		p = p[n:]
		if len(w.head) < wire.HeaderSize {
			return
		}
		h, err := wire.ParseHeader(w.head)
		w.lost = err != nil
		w.head, w.body, w.last = w.head[:0], nil, h
		if w.left = h.Size() - wire.HeaderSize; w.left == 0 && err == nil {
			whole(h, nil)
		}
	}
}

func (c *counted) Write(p []byte) (int, error) {
	c.up.feed(p, func(h wire.Header, body []byte) {
		switch h.Kind {
		case wire.Chunk:
			c.chunksUp++
		case wire.Get:
			var m wire.GetMessage
			if c.gets++; wire.Decode(body[:h.Length], &m) == nil && c.gets > 1 {
				for _, r := range m.Cells {
					c.asked += int(r[1])
				}
			}
		}
	})
	return c.Conn.Write(p)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.down.feed(p[:n], func(h wire.Header, _ []byte) {
		switch h.Kind {
		case wire.Chunk:
			c.chunksDown++
		case wire.Resend:
			c.resends++
		}
	})
	return n, err
}

// newLine is a namespace, and a listener in another that carriers connect it with: each moves packets from one descriptor to the other until
// that is closed.
func newLine(t testing.TB, carriers func(here, there *os.File) []func()) (here *namespace, ln net.Listener) {
	t.Helper()
	here, there := newNamespace(t, "10.77.0.1"), newNamespace(t, "10.77.0.2")
	var running sync.WaitGroup
	for _, carry := range carriers(here.tun, there.tun) {
		running.Go(carry)
	}
	t.Cleanup(func() {
		here.tun.Close()
		there.tun.Close()
		running.Wait()
	})
	var err error
	there.run(func() { ln, err = net.Listen("tcp4", "10.77.0.2:9000") })
	if err != nil {
		t.Fatal(err)
	}
	return here, ln
}

// newBadLine runs a server in one namespace and returns how to connect to it from another, and the links in between.
func newBadLine(t *testing.T, driver string) (connect func() (*client.Client, *counted), links [2]*badLink) {
	t.Helper()
	links = [2]*badLink{{rng: rand.New(rand.NewPCG(*badSeed, 1))}, {rng: rand.New(rand.NewPCG(*badSeed, 2))}}
	here, ln := newLine(t, func(here, there *os.File) []func() {
		return []func(){func() { links[0].carry(there, here) }, func() { links[1].carry(here, there) }}
	})
	srv, _ := serve(t, stores["mem"](t), Config{Driver: driver})
	go srv.Serve(ln)
	return func() (*client.Client, *counted) {
		for {
			line := &counted{}
			var err error
			here.run(func() { line.Conn, err = net.DialTimeout("tcp4", "10.77.0.2:9000", patience) })
			if err != nil {
				t.Fatal(err)
			}
			c, err := client.New(t.Context(), line, client.Config{Timeout: patience})
			if err == nil {
				return c, line
			}
			t.Logf("HELLO: %v", err)
		}
	}, links
}

// TestGateBadLink moves arrays between two network namespaces over a link that drops, delays, repeats and reorders packets, and swaps words
// where TCP's checksum does not see it: no wrong byte is accepted, and only the chunks that came damaged travel again.
func TestGateBadLink(t *testing.T) { eachDriver(t, badLinkUnder) }

func badLinkUnder(t *testing.T, driver string) {
	const size, cell = 16 << 20, 256 << 10
	connect, links := newBadLine(t, driver)
	begin, found, breaks, moved, cells := time.Now(), 0, 0, 0, 0
	for round := 0; moved < *badBytes/len(drivers); round++ {
		x := random(t, rand.New(rand.NewPCG(*badSeed, uint64(round)+10)), "|u1", array.Shape{size}, nil)
		opts := client.PutOptions{ChunkBytes: cell, Codec: "none", ID: wire.ID{1, byte(round), byte(round >> 8)}, Resume: true}
		for {
			c, line := connect()
			_, err := c.Put(t.Context(), "bad", x, opts)
			c.Close()
			found += line.resends
			if err == nil && !line.down.lost && line.chunksUp > size/cell+line.resends {
				t.Errorf("put: %d chunks sent for %d and %d that were asked for again", line.chunksUp, size/cell, line.resends)
			}
			if err == nil {
				break
			}
			if e, ok := errors.AsType[*client.Error](err); !ok || !e.Closed {
				t.Fatal(err)
			}
			breaks++ // a header, or another frame than a CHUNK
			t.Logf("put: %v", err)
		}
		var got *client.Array
		for {
			var err error
			c, line := connect()
			got, err = c.Get(t.Context(), "bad", client.GetOptions{})
			c.Close()
			found += line.asked
			if err == nil && line.chunksDown != size/cell+line.asked {
				t.Errorf("get: %d chunks came for %d and %d that were asked for again", line.chunksDown, size/cell, line.asked)
			}
			if err == nil {
				break
			}
			breaks++
			t.Logf("get: %v", err)
		}
		if !bytes.Equal(got.Data, x.Data) {
			t.Fatalf("round %d: wrong bytes were accepted", round)
		}
		moved += 2 * size
		cells += 2 * size / cell
	}
	swaps := links[0].swaps.Load() + links[1].swaps.Load()
	if found == 0 || int64(found+breaks) > swaps {
		t.Errorf("%d damages found and %d breaks, %d were made", found, breaks, swaps)
	}
	t.Logf("badlink %s: tried=%d reached=%d injected=%d failed=0 seed=%d (%d MiB in %v, %d connections broke; dropped %d, repeated %d, delayed %d packets)",
		driver, cells, found+breaks, swaps, *badSeed, moved>>20, time.Since(begin).Round(time.Millisecond), breaks,
		links[0].dropped.Load()+links[1].dropped.Load(), links[0].repeated.Load()+links[1].repeated.Load(), links[0].delayed.Load()+links[1].delayed.Load())
}
