//go:build linux

package evloop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// world is a kernel in memory: sockets with a script of what the peer sends,
// and faults at any call. It panics at any use of a descriptor that is not
// open, and gives out the lowest free number, as the system does.
type world struct {
	rng    *rand.Rand
	now    int64
	faults bool // inject errors and short counts
	fatal  bool // among them such as end a connection
	open   map[int]any
	byFD   map[int]*sock
	sets   map[int]Interest
	pool   []*sock // accepted next
	stateF func(fd int) connState
	hits   map[triple]int
}

type triple struct {
	call  string
	errno unix.Errno
	state connState
}

// sock is one connection as the peer sees it.
type sock struct {
	script  []byte // what the peer sends
	sent    int    // of it, by the peer
	read    int    // of it, by the loop
	eof     bool   // the peer has ended its side
	reset   unix.Errno
	got     []byte // what the peer has received
	room    int    // of the send buffer
	ended   bool   // the loop has ended its side
	passed  map[int][]int
	files   map[int][]int // position in got: descriptors received
	faulted bool          // an injected error that ends the connection
}

func newWorld(rng *rand.Rand, hits map[triple]int) *world {
	return &world{rng: rng, now: 1, open: map[int]any{}, byFD: map[int]*sock{}, sets: map[int]Interest{}, hits: hits}
}

func (w *world) alloc(what any) int {
	for fd := 3; ; fd++ {
		if w.open[fd] == nil {
			w.open[fd] = what
			return fd
		}
	}
}

func (w *world) must(fd int, call string) {
	if w.open[fd] == nil {
		panic(fmt.Sprintf("%s on descriptor %d, which is not open", call, fd))
	}
}

// fault decides about an injected error of a call.
func (w *world) fault(call string, fd int, mild, fatal []unix.Errno) unix.Errno {
	state := stClosed
	if w.stateF != nil {
		state = w.stateF(fd)
	}
	e := unix.Errno(0)
	if w.faults {
		switch r := w.rng.IntN(100); {
		case r < 12 && len(mild) > 0:
			e = mild[w.rng.IntN(len(mild))]
		case r == 99 && w.fatal && len(fatal) > 0:
			e = fatal[w.rng.IntN(len(fatal))]
			if s := w.byFD[fd]; s != nil {
				s.faulted = true
			}
		}
	}
	w.hits[triple{call, e, state}]++
	return e
}

var (
	mildIO     = []unix.Errno{unix.EINTR, unix.EAGAIN}
	fatalRead  = []unix.Errno{unix.ECONNRESET, unix.ETIMEDOUT}
	fatalWrite = []unix.Errno{unix.ECONNRESET, unix.EPIPE}
	mildAccept = []unix.Errno{unix.EINTR, unix.EAGAIN, unix.ECONNABORTED, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.EPROTO}
)

func (w *world) short(n int) int {
	if w.faults && n > 1 && w.rng.IntN(3) == 0 {
		return 1 + w.rng.IntN(n-1)
	}
	return n
}

func (w *world) Read(fd int, _ bool, a, b []byte) (int, unix.Errno) {
	w.must(fd, "read")
	s := w.byFD[fd]
	if e := w.fault("read", fd, mildIO, fatalRead); e != 0 {
		return 0, e
	}
	return s.take(a, b, w.short(min(len(a)+len(b), s.sent-s.read)))
}

func (s *sock) take(a, b []byte, n int) (int, unix.Errno) {
	if s.reset != 0 {
		return 0, s.reset
	}
	if n == 0 {
		if s.eof && s.read == s.sent {
			return 0, 0
		}
		return 0, unix.EAGAIN
	}
	k := copy(a, s.script[s.read:s.read+n])
	copy(b, s.script[s.read+k:s.read+n])
	s.read += n
	return n, 0
}

// Recv ends a read before bytes that carry descriptors of their own, as
// Linux does.
func (w *world) Recv(fd int, a, b []byte, room int, files []int) (int, []int, bool, unix.Errno) {
	w.must(fd, "recv")
	s := w.byFD[fd]
	if e := w.fault("recv", fd, mildIO, fatalRead); e != 0 {
		return 0, files, false, e
	}
	n := w.short(min(len(a)+len(b), s.sent-s.read))
	for i := s.read + 1; i < s.read+n; i++ {
		if s.passed[i] != nil {
			n = i - s.read
		}
	}
	from := s.read
	n, e := s.take(a, b, n)
	lost := false
	if n > 0 && s.passed[from] != nil {
		if room == 0 {
			lost = true
			for _, f := range s.passed[from] {
				delete(w.open, f)
			}
		} else {
			files = append(files, s.passed[from]...)
		}
		delete(s.passed, from)
	}
	return n, files, lost, e
}

func (w *world) Write(fd int, _ bool, bufs [][]byte, files []int) (int, unix.Errno) {
	w.must(fd, "write")
	s := w.byFD[fd]
	if e := w.fault("write", fd, mildIO, fatalWrite); e != 0 {
		return 0, e
	}
	if s.reset != 0 {
		return 0, unix.EPIPE
	}
	if s.ended {
		panic("write after shutdown")
	}
	all := bytes.Join(bufs, nil)
	n := w.short(min(len(all), s.room))
	if n == 0 {
		return 0, unix.EAGAIN
	}
	if len(files) > 0 {
		s.files[len(s.got)] = append([]int(nil), files...)
	}
	s.got = append(s.got, all[:n]...)
	s.room -= n
	return n, 0
}

// Sendfile's file is a pattern: byte i is byte(i * 7).
func (w *world) Sendfile(out, in int, off int64, n int) (int, unix.Errno) {
	w.must(out, "sendfile")
	w.must(in, "sendfile")
	s := w.byFD[out]
	if e := w.fault("sendfile", out, mildIO, fatalWrite); e != 0 {
		return 0, e
	}
	if s.reset != 0 {
		return 0, unix.EPIPE
	}
	n = w.short(min(n, s.room))
	if n == 0 {
		return 0, unix.EAGAIN
	}
	s.got = append(s.got, pattern(off, n)...)
	s.room -= n
	return n, 0
}

func pattern(off int64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((off + int64(i)) * 7)
	}
	return b
}

func (w *world) Accept(fd int) (int, unix.Sockaddr, unix.Errno) {
	w.must(fd, "accept")
	if e := w.fault("accept", fd, mildAccept, nil); e != 0 {
		return -1, nil, e
	}
	if len(w.pool) == 0 {
		return -1, nil, unix.EAGAIN
	}
	s := w.pool[0]
	w.pool = w.pool[1:]
	nfd := w.alloc(s)
	w.byFD[nfd] = s
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}}
	if s.passed != nil {
		sa = &unix.SockaddrUnix{}
	}
	return nfd, sa, 0
}

func (w *world) Reserve() int { return w.alloc("reserve") }

func (w *world) Close(fd int) unix.Errno {
	w.must(fd, "close")
	if w.sets[fd] != 0 {
		panic(fmt.Sprintf("close of descriptor %d, which is registered", fd))
	}
	if s := w.byFD[fd]; s != nil {
		s.ended = true
	}
	delete(w.open, fd)
	delete(w.byFD, fd)
	return 0
}

func (w *world) ShutdownWrite(fd int) unix.Errno {
	w.must(fd, "shutdown")
	e := w.fault("shutdown", fd, nil, []unix.Errno{unix.ENOTCONN})
	w.byFD[fd].ended = true
	return e
}

func (w *world) Nap(time.Duration) {}
func (w *world) Cede()             {}

func (w *world) SockError(fd int) unix.Errno {
	w.must(fd, "sockerror")
	if e := w.fault("sockerror", fd, nil, []unix.Errno{unix.ECONNRESET}); e != 0 {
		return e
	}
	return w.byFD[fd].reset
}

// fakePoller is level-triggered over a world.
type fakePoller struct{ *world }

func (p fakePoller) Name() string       { return "fake" }
func (p fakePoller) Wake() error        { return nil }
func (p fakePoller) Close() error       { return nil }
func (s *sock) hup() bool               { return s.reset != 0 || s.eof && s.ended }
func (s *sock) readable() bool          { return s.sent > s.read || s.eof || s.reset != 0 }
func (s *sock) writable() bool          { return s.room > 0 || s.reset != 0 }
func (w *world) pending() (listen bool) { return len(w.pool) > 0 }

func (p fakePoller) Set(fd int, old, new Interest) error {
	p.must(fd, "register")
	if p.sets[fd] != old {
		panic(fmt.Sprintf("registered for %d, the loop says %d", p.sets[fd], old))
	}
	if new == 0 {
		delete(p.sets, fd)
	} else {
		p.sets[fd] = new
	}
	return nil
}

func (p fakePoller) Wait(ev []Event, _ time.Duration) (int, error) {
	if p.faults && p.rng.IntN(20) == 0 { // EINTR
		return 0, nil
	}
	var fds []int
	for fd := range p.sets {
		fds = append(fds, fd)
	}
	sort.Ints(fds)
	p.rng.Shuffle(len(fds), func(i, j int) { fds[i], fds[j] = fds[j], fds[i] })
	n := 0
	for _, fd := range fds {
		if n == len(ev) {
			break
		}
		e, want := Event{FD: int32(fd)}, p.sets[fd]
		s := p.byFD[fd]
		if s == nil { // the listener
			if p.pending() && want&Read != 0 {
				e.Ready = Read
			}
		} else {
			if want&Read != 0 && s.readable() {
				e.Ready |= Read
			}
			if want&Write != 0 && s.writable() {
				e.Ready |= Write
			}
			e.Hup = s.hup()
		}
		if e.Ready != 0 || e.Hup || p.faults && p.rng.IntN(30) == 0 { // now and then a false alarm
			if e.Ready == 0 && !e.Hup {
				e.Ready = want & (Read | Write)
			}
			ev[n] = e
			n++
		}
	}
	return n, nil
}
