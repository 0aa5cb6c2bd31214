//go:build linux

package evloop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// collect is a handler of 8-byte headers whose payload goes to memory of its
// own; it checks that Parts are gapless.
type collect struct {
	t      *testing.T
	got    chan []byte
	dst    []byte
	seen   int
	failed chan error
}

func (h *collect) Open(*Conn) {}
func (h *collect) Data(c *Conn, b []byte) int {
	if len(b) < 8 {
		return 0
	}
	h.dst, h.seen = make([]byte, binary.BigEndian.Uint64(b)), 0
	check(h.t, c.ReadInto(h.dst, h))
	return 8
}
func (h *collect) Part(_ *Conn, p []byte) {
	if len(p) == 0 || &p[0] != &h.dst[h.seen] {
		h.t.Error("a part does not follow the one before")
	}
	h.seen += len(p)
}
func (h *collect) Done(_ *Conn, err error) {
	if err != nil {
		h.failed <- err
		return
	}
	if h.seen != len(h.dst) {
		h.t.Errorf("parts sum up to %d of %d", h.seen, len(h.dst))
	}
	h.got <- h.dst
}
func (h *collect) Drained(*Conn)      {}
func (h *collect) Close(*Conn, error) {}

func framesOf(sizes ...int) (stream []byte, payloads [][]byte) {
	for i, n := range sizes {
		p := random(uint64(i+n), n)
		stream = append(binary.BigEndian.AppendUint64(stream, uint64(n)), p...)
		payloads = append(payloads, p)
	}
	return stream, payloads
}

func TestReadInto(t *testing.T) {
	audit(t)
	eachTransport(t, func(t *testing.T, r *running, network string, low int) {
		sizes := []int{0, 1, 4096, 65536 - 8, 65536, 200_000, 5 << 20, 0, 3, 1 << 20}
		stream, want := framesOf(sizes...)
		p := socketPair(t, network, low)
		h := &collect{t: t, got: make(chan []byte, len(sizes)), failed: make(chan error, 1)}
		r.adopt(p.fd, h)
		go func() { _, _ = p.peer.Write(stream) }()
		for i := range sizes {
			if got := recv(t, h.got); !bytes.Equal(got, want[i]) {
				t.Fatalf("payload %d of %d bytes differs", i, sizes[i])
			}
		}
	})
}

func TestReadInto_endsEarly(t *testing.T) {
	audit(t)
	r := startLoop(t, Config{})
	p := socketPair(t, "tcp", 0)
	h := &collect{t: t, got: make(chan []byte, 1), failed: make(chan error, 1)}
	r.adopt(p.fd, h)
	stream, _ := framesOf(1 << 20)
	_, err := p.peer.Write(stream[:len(stream)-1])
	check(t, err)
	check(t, p.peer.Close())
	if err := recv(t, h.failed); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("done with %v", err)
	}
}

// Memory that vanishes under a ReadInto is the program's error and fails the
// connection only.
func TestReadInto_destinationGone(t *testing.T) {
	audit(t)
	f, err := os.CreateTemp(t.TempDir(), "map")
	check(t, err)
	defer f.Close()
	const size = 1 << 20
	check(t, f.Truncate(size))
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	check(t, err)
	defer func() { _ = unix.Munmap(m) }()
	check(t, f.Truncate(0))
	r := startLoop(t, Config{})
	p := socketPair(t, "tcp", 0)
	failed := make(chan error, 1)
	r.adopt(p.fd, &funcs{open: func(c *Conn) {
		check(t, c.ReadInto(m, SinkFunc(func(_ *Conn, err error) { failed <- err })))
	}})
	_, _ = p.peer.Write(make([]byte, 4096))
	if err := recv(t, failed); !errors.Is(err, ErrDst) {
		t.Fatalf("done with %v", err)
	}
}

// Descriptors that come in the middle of a payload are not lost, refused
// ones are closed and counted.
func TestFiles(t *testing.T) {
	audit(t)
	eachBackend(t, func(t *testing.T, backend string) {
		r := startLoop(t, Config{Backend: backend})
		p := socketPair(t, "unix", 0)
		dst := make([]byte, 300_000)
		done := make(chan error, 1)
		c := r.adopt(p.fd, &funcs{open: func(c *Conn) {
			c.AllowFiles(2)
			check(t, c.ReadInto(dst, SinkFunc(func(_ *Conn, err error) { done <- err })))
		}})
		raw, err := p.peer.SyscallConn()
		check(t, err)
		send := func(b []byte, fds ...int) {
			for len(b) > 0 {
				n := 0
				check(t, raw.Write(func(fd uintptr) bool {
					n, err = unix.SendmsgN(int(fd), b, unix.UnixRights(fds...), nil, 0)
					return err != unix.EAGAIN
				}))
				check(t, err)
				b, fds = b[n:], nil
			}
		}
		var pipe [2]int
		check(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
		send(make([]byte, 100_000))
		send(make([]byte, 100_000), pipe[1])
		send(make([]byte, 100_000), pipe[1], pipe[1], pipe[1]) // two too many
		check(t, unix.Close(pipe[1]))
		check(t, recv(t, done))
		var files []ReceivedFile
		var s ConnStats
		r.do(func() { files, s = c.TakeFiles(9), c.Stats() })
		if len(files) != 2 || s.FilesDropped != 2 {
			t.Fatalf("%d descriptors, %d refused; want 2 and 2", len(files), s.FilesDropped)
		}
		if f := files[0]; f.From > 100_000 || f.To <= 100_000 {
			t.Errorf("the first came with bytes %d to %d, was sent with 100000", f.From, f.To)
		}
		for _, f := range files {
			if flags, err := unix.FcntlInt(uintptr(f.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Error("a received descriptor is inherited")
			}
			_, err := unix.Write(f.FD, []byte("x"))
			check(t, err)
			check(t, unix.Close(f.FD))
		}
		b := make([]byte, 8) // with every copy closed the pipe ends: nothing leaked
		if n, err := unix.Read(pipe[0], b); n != 2 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		if n, err := unix.Read(pipe[0], b); n != 0 || err != nil {
			t.Fatalf("a descriptor leaked: read %d, %v", n, err)
		}
		check(t, unix.Close(pipe[0]))
	})
}

func TestFiles_refusedByDefault(t *testing.T) {
	audit(t)
	r := startLoop(t, Config{})
	p := socketPair(t, "unix", 0)
	got := make(chan int, 10)
	c := r.adopt(p.fd, &funcs{data: func(_ *Conn, b []byte) int { got <- len(b); return len(b) }})
	raw, err := p.peer.SyscallConn()
	check(t, err)
	var pipe [2]int
	check(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	check(t, raw.Control(func(fd uintptr) { err = unix.Sendmsg(int(fd), []byte("x"), unix.UnixRights(pipe[1]), nil, 0) }))
	check(t, err)
	check(t, unix.Close(pipe[1]))
	recv(t, got)
	r.do(func() {
		if c.Files() != 0 || c.Stats().FilesDropped == 0 {
			t.Error("a descriptor was taken, or its refusal not counted")
		}
	})
	if n, err := unix.Read(pipe[0], make([]byte, 1)); n != 0 || err != nil {
		t.Fatalf("the refused descriptor is still open: %d, %v", n, err)
	}
	check(t, unix.Close(pipe[0]))
}

// A lent descriptor travels with the first byte of its message, whatever is
// queued around it, and urgent messages overtake whole ones only.
func TestSend_descriptorsAndUrgent(t *testing.T) {
	audit(t)
	r := startLoop(t, Config{})
	p := socketPair(t, "unix", 0)
	c := r.adopt(p.fd, Base{})
	order := make(chan string, 10)
	told := func(s string) func(error) { return func(err error) { check(t, err); order <- s } }
	big := random(1, 3<<20)
	r.do(func() {
		check(t, c.WriteOwned(big, told("big")))
	})
	eventually(t, "output blocks", func() (b bool) { r.do(func() { b = c.flags&flBlocked != 0 }); return b })
	r.do(func() {
		check(t, c.Send(Message{Bufs: [][]byte{[]byte("[head"), []byte("tail]")}, FDs: []int{0}, Done: told("frame")}))
		check(t, c.Send(Message{Bufs: [][]byte{[]byte("(u"), []byte("1)")}, Urgent: true, Done: told("u1")}))
		check(t, c.Send(Message{Bufs: [][]byte{[]byte("(u2)")}, Urgent: true, Done: told("u2")}))
	})
	_, err := io.ReadFull(p.peer, make([]byte, len(big)))
	check(t, err)
	var text []byte
	var at []int
	raw, err := p.peer.SyscallConn()
	check(t, err)
	b, oob := make([]byte, 1), make([]byte, 64)
	for len(text) < len("(u1)(u2)[headtail]") {
		check(t, raw.Read(func(fd uintptr) bool {
			var n, oobn int
			n, oobn, _, _, err = unix.Recvmsg(int(fd), b, oob, unix.MSG_CMSG_CLOEXEC)
			if n > 0 {
				for _, f := range takeFiles(oob[:oobn], nil) {
					at = append(at, len(text))
					_ = unix.Close(f)
				}
				text = append(text, b...)
			}
			return err != unix.EAGAIN
		}))
	}
	if string(text) != "(u1)(u2)[headtail]" || len(at) != 1 || at[0] != 8 {
		t.Fatalf("got %q with descriptors at %v", text, at)
	}
	for _, want := range []string{"big", "u1", "u2", "frame"} {
		if s := recv(t, order); s != want {
			t.Errorf("done %s, want %s", s, want)
		}
	}
}

func TestSendFile(t *testing.T) {
	audit(t)
	data := random(9, 2<<20)
	f, err := os.CreateTemp(t.TempDir(), "f")
	check(t, err)
	defer f.Close()
	_, err = f.Write(data)
	check(t, err)
	eachTransport(t, func(t *testing.T, r *running, network string, low int) {
		p := socketPair(t, network, low)
		done := make(chan error, 2)
		c := r.adopt(p.fd, Base{})
		r.do(func() {
			_, _ = c.Write([]byte("head"))
			check(t, c.SendFile(int(f.Fd()), 1000, int64(len(data))-1000, func(err error) { done <- err }))
			_, _ = c.Write([]byte("tail"))
		})
		want := append(append([]byte("head"), data[1000:]...), "tail"...)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(p.peer, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the stream differs: %v", err)
		}
		check(t, recv(t, done))
		r.do(func() { // more than the file has
			check(t, c.SendFile(int(f.Fd()), int64(len(data))-10, 11, func(err error) { done <- err }))
		})
		if err := recv(t, done); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("past the end of the file: %v", err)
		}
	})
}

func TestOffload_orderAndPause(t *testing.T) {
	audit(t)
	o := NewOffload(OffloadConfig{Workers: 4, PerConn: 3})
	defer o.Close()
	r := startLoop(t, Config{})
	const n = 200
	results := make(chan int, 3*n)
	for k := range 3 {
		p := socketPair(t, "tcp", 0)
		next := 0
		r.adopt(p.fd, &funcs{data: func(c *Conn, b []byte) (used int) {
			for used < len(b) && !c.paused() {
				i := int(b[used])
				used++
				var ran int
				err := o.Go(c, func() { ran = i }, func(c *Conn) {
					if ran != next%256 || c.jobs > 3 {
						t.Errorf("result %d, want %d; %d in flight", ran, next%256, c.jobs)
					}
					next++
					results <- k
				})
				check(t, err)
			}
			return used
		}})
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i)
		}
		_, err := p.peer.Write(b)
		check(t, err)
	}
	for range 3 * n {
		recv(t, results)
	}
}

// The reply that Offload still computes when the peer ends its side, and
// when Close is called, is sent.
func TestOffload_closeWaits(t *testing.T) {
	audit(t)
	o := NewOffload(OffloadConfig{})
	defer o.Close()
	r := startLoop(t, Config{})
	p := socketPair(t, "tcp", 0)
	release := make(chan struct{})
	r.adopt(p.fd, &funcs{data: func(c *Conn, b []byte) int {
		check(t, o.Go(c, func() { <-release }, func(c *Conn) {
			if _, err := c.Write([]byte("late")); err != nil {
				t.Error(err)
			}
		}))
		return len(b)
	}})
	_, err := p.peer.Write([]byte("x"))
	check(t, err)
	closeWrite(t, p.peer)
	time.Sleep(10 * time.Millisecond)
	close(release)
	if got, err := io.ReadAll(p.peer); err != nil || string(got) != "late" {
		t.Fatalf("got %q, %v", got, err)
	}
}
