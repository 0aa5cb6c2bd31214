//go:build gate && linux

package worker

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/dir"
	"ndferry/store/storetest"
	"ndferry/wire"
)

var (
	errnoShare = flag.Int("errno-share", 64, "TestGateErrno injects one of so many faults; 1 is all")
	errnoSeed  = flag.Int("errno-seed", 1, "which of them TestGateErrno begins with")
)

// errnos are what the system may answer, and the code that a client must be told.
var errnos = []struct {
	errno syscall.Errno
	code  wire.Code
}{
	{syscall.EIO, wire.CodeInternal},
	{syscall.ENOSPC, wire.CodeNoSpace},
	{syscall.EDQUOT, wire.CodeNoSpace},
	{syscall.EROFS, wire.CodePermission},
	{syscall.EMFILE, wire.CodeTemporary},
	{syscall.ENOMEM, wire.CodeTemporary},
}

// TestGateErrno lets every call of the file system, and of the network, fail under a server with clients: with each errno, once and for
// as long as a story takes. The client whose transfer it was is told the right code, the others are unharmed, nothing that was acknowledged is
// lost, and when the cause is gone the same server serves on.
func TestGateErrno(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			s := newErrnoSweep(t, driver)
			begin, tried, reached := time.Now(), 0, 0
			calls := storeCalls
			if driver == GoroutineDriver { // the loop has a seam of its own, in evloop
				calls = slices.Concat(storeCalls, netCalls)
			}
			number := *errnoSeed
			try := func(call string, errno, nth int, how sweepHow) {
				tried++
				if s.round(call, errno, nth, how) {
					reached++
				}
				if t.Failed() {
					t.Fatalf("%s call %d of %s, %+v", errnos[errno].errno, nth, call, how)
				}
			}
			for k, call := range calls {
				for _, how := range []sweepHow{{}, {stays: true}, {mine: true}} {
					network := slices.Contains(netCalls, call)
					if network && how != (sweepHow{}) {
						continue // a line that stays broken is another's
					}
					most := s.count(call, how)
					if how == (sweepHow{}) {
						try(call, k%len(errnos), 1+number%most, how)
					}
					for i := range errnos {
						if network && i > 0 {
							break // a line that broke says no errno
						}
						for nth := 1; nth <= most; nth++ {
							if number++; number%*errnoShare == 0 {
								try(call, i, nth, how)
							}
						}
					}
				}
			}
			injected := s.end()
			for _, call := range calls {
				if injected[call] == 0 {
					t.Errorf("no %s failed", call)
				}
			}
			sum := 0
			for _, n := range injected {
				sum += n
			}
			t.Logf("errno %s: tried=%d reached=%d injected=%d failed=0 seed=%d (%d calls, %d arrays compared, %d restarts, %v)",
				driver, tried, reached, sum, *errnoSeed, len(calls), s.compared, s.restarts, time.Since(begin).Round(time.Second))
		})
	}
}

// sweepHow is how a fault comes.
type sweepHow struct {
	stays bool // until the story ends, not once
	mine  bool // only to the transfers of the story, while another client works beside it
}

// errnoSweep is a server over a file system that fails, and what its clients know.
type errnoSweep struct {
	t            *testing.T
	driver       string
	path, socket string
	fs           *faultFS
	st           *dir.Store
	srv          *Server
	served       chan error
	c            *client.Client
	acked        map[string]uint64   // by name the seed of what it must hold; 0: nothing
	maybe        map[string][]uint64 // what failed and may be there all the same; 0: its removal
	seed         uint64
	descriptors  int

	compared, restarts, rounds int
	network                    bool // the fault is in the network
	code                       wire.Code
}

func newErrnoSweep(t *testing.T, driver string) *errnoSweep {
	s := &errnoSweep{t: t, driver: driver, path: quickStore(t), socket: filepath.Join(t.TempDir(), "s"), acked: map[string]uint64{}, maybe: map[string][]uint64{}}
	if err := os.Mkdir(s.path, 0o777); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s
}

func (s *errnoSweep) start() {
	s.t.Helper()
	o, err := dir.NewOS(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	total := map[string]int{}
	if s.fs != nil {
		total = s.fs.total
	}
	s.fs = newFaultFS(o)
	s.fs.total = total
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	if s.st, err = dir.Open(s.path, dir.Config{FS: s.fs, Log: quiet}); err != nil {
		s.t.Fatal(err)
	}
	s.srv = New(s.st, Config{Driver: s.driver, Log: quiet})
	os.Remove(s.socket)
	ln, err := net.Listen("unix", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.driver == GoroutineDriver {
		ln = faultListener{ln, s.fs}
	}
	s.served = make(chan error, 1)
	go func() { s.served <- s.srv.Serve(ln) }()
	s.c = dial(s.t, "unix://"+s.socket)
}

func (s *errnoSweep) stop() {
	s.t.Helper()
	s.c.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.srv.Shutdown(ctx); err != nil {
		s.t.Errorf("shutdown: %v", err)
	}
	<-s.served
	if err := s.st.Close(); err != nil {
		s.t.Errorf("close the store: %v", err)
	}
	if left, err := os.ReadDir(s.path + "/state/trash"); err != nil || len(left) > 0 {
		s.t.Errorf("left in the trash: %v, %v", left, err)
	}
	n := len(storetest.Descriptors(s.t))
	for end := time.Now().Add(patience); s.descriptors > 0 && n > s.descriptors; n = len(storetest.Descriptors(s.t)) {
		if time.Now().After(end) {
			s.t.Errorf("%d descriptors, there were %d", n, s.descriptors)
			break
		}
		time.Sleep(time.Millisecond)
	}
	if s.descriptors == 0 {
		s.descriptors = n
	}
}

// end stops the server and returns how often each call failed.
func (s *errnoSweep) end() map[string]int {
	s.stop()
	s.start()
	s.check()
	s.stop()
	return s.fs.total
}

// count returns how often a call is made in a story where nothing fails.
func (s *errnoSweep) count(call string, how sweepHow) int {
	what := &fault{call: call, nth: math.MaxInt, only: how.paths()}
	s.network = slices.Contains(netCalls, call)
	s.fs.arm(what)
	s.tell()
	s.fs.disarm()
	s.settle()
	return max(what.seen, 1)
}

// paths are those that a fault is limited to.
func (how sweepHow) paths() func(string) bool {
	if !how.mine {
		return nil
	}
	return func(p string) bool {
		return strings.HasPrefix(p, "zarr/v/") || strings.HasPrefix(p, "state/uploads/56")
	}
}

// round tells a story while a call fails. It reports whether that was reached.
func (s *errnoSweep) round(call string, errno, nth int, how sweepHow) bool {
	s.network, s.code = slices.Contains(netCalls, call), errnos[errno].code
	what := &fault{call: call, nth: nth, err: errnos[errno].errno, stays: how.stays}
	beside := func() {}
	if how.mine {
		what.only = func(p string) bool {
			return strings.HasPrefix(p, "zarr/v/") || strings.HasPrefix(p, "state/uploads/56")
		}
		beside = s.neighbour()
	}
	waiting := s.bystander()
	s.fs.arm(what)
	s.tell()
	hits := s.fs.disarm()
	beside()
	waiting()
	s.settle()
	if len(s.fs.lies) > 0 {
		s.t.Errorf("after a failed sync: %q", s.fs.lies)
	}
	if s.rounds++; s.rounds%25 == 0 {
		s.stop()
		s.restarts++
		s.start()
		s.check()
	}
	return hits > 0
}

func sweepArray(seed uint64) client.Array {
	a := client.Array{Shape: array.Shape{2500 + int(seed%100)}}
	a.DType, _ = array.ParseDType("|u1")
	a.Data = make([]byte, a.Shape[0])
	for i := range a.Data {
		a.Data[i] = byte(uint64(i)*seed>>3) ^ byte(seed)
	}
	return a
}

func sweepID(seed uint64, first byte) wire.ID {
	id := transferID(seed)
	copy(id[1:], id[:8])
	id[0] = first
	return id
}

// tell has a client do one of each thing.
func (s *errnoSweep) tell() {
	if s.network {
		s.c.Close()
		s.reconnect()
	}
	s.put("v/a", client.PutOptions{Digest: client.SHA256})
	s.put("v/g/b", client.PutOptions{Codec: "lz4", IfAbsent: s.acked["v/g/b"] == 0 && len(s.maybe["v/g/b"]) == 0})
	s.interrupted("v/c")
	s.put("v/a", client.PutOptions{Relaxed: true})
	s.call("stat", func() error { _, err := s.c.Stat(s.t.Context(), "v/a"); return err })
	s.call("list", func() error { _, err := s.c.List(s.t.Context(), ""); return err })
	s.call("verify", func() error { _, err := s.c.Verify(s.t.Context(), "v/a", nil); return err })
	s.get("v/a")
	s.remove("v/g/b")
}

func (s *errnoSweep) put(name string, opts client.PutOptions) {
	s.seed++
	s.putAgain(name, s.seed, opts)
}

func (s *errnoSweep) putAgain(name string, seed uint64, opts client.PutOptions) {
	s.t.Helper()
	opts.ID, opts.ChunkBytes = sweepID(seed, 0x56), 1000
	if s.network {
		opts.Retries = 6
	}
	_, err := s.c.Put(s.t.Context(), name, sweepArray(seed), opts)
	if err == nil {
		s.acked[name] = seed
		delete(s.maybe, name)
		return
	}
	s.maybe[name] = append(s.maybe[name], seed)
	s.judge("put "+name, err)
}

// interrupted breaks a resumable put off after two cells and takes it up again.
func (s *errnoSweep) interrupted(name string) {
	s.seed++
	_, err := s.c.PutFrom(s.t.Context(), name, &stumbling{sweepArray(s.seed)}, client.PutOptions{ID: sweepID(s.seed, 0x56), ChunkBytes: 1000, Resume: true})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		s.judge("the first half of put "+name, err)
	}
	s.reconnect()
	s.putAgain(name, s.seed, client.PutOptions{Resume: true})
}

// stumbling is a source that ends before its last cell.
type stumbling struct{ client.Array }

func (a *stumbling) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	if i == 2 {
		return nil, io.ErrUnexpectedEOF
	}
	return a.Array.Cell(g, i, buf)
}

func (s *errnoSweep) remove(name string) {
	err := s.c.Delete(s.t.Context(), name)
	switch {
	case err == nil || errors.Is(err, client.ErrNotFound) && (s.acked[name] == 0 || slices.Contains(s.maybe[name], 0)):
		s.acked[name] = 0
		delete(s.maybe, name)
	default:
		s.maybe[name] = append(s.maybe[name], 0)
		s.judge("delete "+name, err)
	}
}

func (s *errnoSweep) get(name string) {
	got, err := s.c.Get(s.t.Context(), name, client.GetOptions{})
	if err != nil {
		s.judge("get "+name, err)
		return
	}
	s.compare(name, got)
}

func (s *errnoSweep) call(what string, f func() error) {
	if err := f(); err != nil {
		s.judge(what, err)
	}
}

// judge fails the test unless err is what the fault must look like, and mends the connection.
func (s *errnoSweep) judge(what string, err error) {
	s.t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	switch {
	case s.network && ok && e.Closed:
	case !s.network && ok && !e.Closed && e.Code == s.code:
	case errors.Is(err, client.ErrNotFound) && s.missing():
	case what == "verify" && s.code == wire.CodeInternal && errors.Is(err, client.ErrIntegrity): // a block that cannot be read
	default:
		s.t.Errorf("%s: %v; the code should be %s", what, err, s.code)
	}
	s.reconnect()
}

// missing tells that there may be no array because of the fault.
func (s *errnoSweep) missing() bool { return s.acked["v/a"] == 0 || len(s.maybe["v/a"]) > 0 }

func (s *errnoSweep) reconnect() {
	for try := 0; s.c.Err() != nil; try++ {
		c, err := client.Dial(s.t.Context(), "unix://"+s.socket, client.Config{Timeout: patience})
		if err == nil {
			s.c.Close()
			s.c = c
			s.t.Cleanup(func() { c.Close() })
		} else if try > 20 {
			s.t.Fatalf("no connection: %v", err)
		}
	}
}

// bystander begins a put on another connection, which must succeed when the fault is over.
func (s *errnoSweep) bystander() (finish func()) {
	s.seed++
	nc, err := net.Dial("unix", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	p := newPeer(s.t, nc)
	u := newUpload(s.t, "w", 0)
	u.msg.ID = sweepID(s.seed, 0x77)
	// The answer to STAT comes when what was before it is done.
	p.send(u.put(1), u.chunk(1, 0), wire.AppendFrame(nil, wire.Header{Kind: wire.Stat, Flags: wire.Critical, Stream: 2}, wire.Encode(wire.NameMessage{Name: "nothing"})))
	for f := p.next(); f.Kind != wire.Fail; f = p.next() {
	}
	return func() {
		defer nc.Close()
		if s.network {
			return
		}
		p.send(u.chunk(1, 1), u.finish(1))
		for f := p.next(); f.Kind != wire.Receipt; f = p.next() {
			if f.Kind == wire.Fail || f.Kind == 0 {
				s.t.Errorf("another transfer came to harm: %v %s", f.Kind, f.Payload)
				return
			}
		}
	}
}

// neighbour is a client that works beside the story, and must not notice the fault.
func (s *errnoSweep) neighbour() (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	c := dial(s.t, "unix://"+s.socket)
	var work sync.WaitGroup
	begin := s.seed + 1
	s.seed += 1000
	work.Go(func() {
		for seed := begin; ctx.Err() == nil && seed < begin+1000; seed++ {
			a := sweepArray(seed)
			_, err := c.Put(context.Background(), "n/a", a, client.PutOptions{ID: sweepID(seed, 0x6e), ChunkBytes: 1000})
			if err == nil {
				var got *client.Array
				if got, err = c.Get(context.Background(), "n/a", client.GetOptions{}); err == nil && !bytes.Equal(got.Data, a.Data) {
					err = errors.New("other bytes")
				}
			}
			if err != nil && !s.network {
				s.t.Errorf("another client came to harm: %v", err)
				return
			}
		}
	})
	return func() { cancel(); work.Wait(); c.Close() }
}

// settle checks that the server serves as before: what failed succeeds when it is asked for again.
func (s *errnoSweep) settle() {
	s.t.Helper()
	s.network, s.code = false, ""
	s.reconnect()
	s.check()
	for name, list := range maps.Clone(s.maybe) {
		if last := list[len(list)-1]; last != 0 {
			s.putAgain(name, last, client.PutOptions{Resume: name == "v/c"})
		}
	}
	s.put("v/fresh", client.PutOptions{})
	s.check()
}

// check compares what is there with what was acknowledged.
func (s *errnoSweep) check() {
	s.t.Helper()
	list, err := s.c.List(s.t.Context(), "v/")
	if err != nil {
		s.t.Fatalf("list: %v", err)
	}
	there := map[string]bool{}
	for _, e := range list {
		there[e.Name] = true
	}
	for name, want := range s.acked {
		if !there[name] && want != 0 && !slices.Contains(s.maybe[name], 0) {
			s.t.Errorf("%s: acknowledged and not listed", name)
		}
		there[name] = true
	}
	for name := range there {
		got, err := s.c.Get(s.t.Context(), name, client.GetOptions{})
		switch {
		case errors.Is(err, client.ErrNotFound):
			s.compare(name, nil)
		case err != nil:
			s.t.Errorf("%s: %v", name, err)
		default:
			s.compare(name, got)
		}
	}
}

func (s *errnoSweep) compare(name string, got *client.Array) {
	s.t.Helper()
	for _, seed := range append([]uint64{s.acked[name]}, s.maybe[name]...) {
		if seed == 0 && got == nil || seed != 0 && got != nil && bytes.Equal(got.Data, sweepArray(seed).Data) {
			s.compared++
			return
		}
	}
	s.t.Errorf("%s: found %v; acknowledged is %d, failed have %v", name, got != nil, s.acked[name], s.maybe[name])
}
