package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"ndferry/array"
	"ndferry/internal/pace"
	"ndferry/wire"
)

// saturated is one connection that is never idle: eight streams of cells end to end, and PING between them.
type saturated struct {
	l    *load
	nc   *os.File // blocking: who waits for an answer waits in the kernel, not for a turn of this process's scheduler
	cell int
	per  int // cells of an array

	writing sync.Mutex // held for a frame

	said   wire.Decoder // of the server; of one that puts
	credit uint64       // of one that puts

	window      *pace.Window // of one that gets, as the next two
	given, came uint64       // credit: what the server was granted, and what of it is here

	mu     sync.Mutex
	ended  int       // guarded by mu; cells of which the last byte was taken, or given to the kernel
	asked  time.Time // guarded by mu; of the PING that is not answered; zero: none
	before int       // guarded by mu; ended, then
	number uint64    // guarded by mu; of PINGs
	times  []time.Duration
	cells  []int // that ended between PING and PONG

	counted int // cells while counting
}

const (
	pingStreams = 8
	pingEvery   = 10 * time.Millisecond
)

// saturate keeps such a connection busy and notes what a PING takes, in times of a cell.
func (l *load) saturate(network, address string) error {
	s := &saturated{l: l, cell: l.cell, per: max(l.bytes/l.cell, 1)}
	nc, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	if s.nc, err = nc.(interface{ File() (*os.File, error) }).File(); err != nil {
		return err
	}
	nc.Close()
	defer s.nc.Close()
	stop := make(chan struct{})
	go func() {
		<-l.ctx.Done()
		close(stop)
		_ = syscall.Shutdown(int(s.nc.Fd()), syscall.SHUT_RDWR) // ends who reads or writes
	}()
	s.window = pace.New(pace.Config{First: wire.FirstCredit, Most: wire.MostCredit, Link: pace.LinkOf(s.nc)})
	s.given = wire.FirstCredit
	m := wire.NewHello("ndload", s.given)
	if _, err := s.nc.Write(wire.AppendFrame(nil, wire.Header{Kind: wire.Hello, Flags: wire.Critical}, wire.Encode(m))); err != nil {
		return err
	}
	if l.op == "put" {
		err = s.puts()
	} else {
		for i := range pingStreams {
			s.get(uint32(i + 1))
		}
		go s.pings(stop)
		err = s.read()
	}
	if l.ctx.Err() != nil {
		err = nil
	}
	s.sum()
	return err
}

func (s *saturated) write(parts ...[]byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	all := net.Buffers(parts)
	_, err := all.WriteTo(s.nc)
	return err
}

func (s *saturated) get(stream uint32) {
	m := wire.GetMessage{Name: bulkName(int(stream-1) % pingStreams)}
	_ = s.write(wire.AppendFrame(nil, wire.Header{Kind: wire.Get, Flags: wire.Critical, Stream: stream}, wire.Encode(m)))
}

// pings asks one at a time.
func (s *saturated) pings(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(pingEvery):
			_ = s.ping()
		}
	}
}

// ping asks, unless the last was not answered.
func (s *saturated) ping() error {
	s.mu.Lock()
	if !s.asked.IsZero() {
		s.mu.Unlock()
		return nil
	}
	s.number++
	n := s.number
	s.asked, s.before = time.Now(), s.ended
	s.mu.Unlock()
	return s.write(wire.AppendFrame(nil, wire.Header{Kind: wire.Ping, Index: n}, nil))
}

// read takes all frames of the server.
func (s *saturated) read() error {
	buf := make([]byte, s.cell+wire.TrailerSize+wire.HeaderSize)
	head := buf[:wire.HeaderSize]
	if _, err := io.ReadFull(s.nc, head); err != nil {
		return err
	}
	next := uint32(pingStreams)
	for {
		h, err := wire.ParseHeader(head)
		if err != nil {
			return err
		}
		n := 0
		if h.Length > 0 {
			n = int(h.Length) + wire.TrailerSize
		}
		if n > len(buf)-wire.HeaderSize {
			buf = make([]byte, n+wire.HeaderSize)
		}
		for piece := range slices.Chunk(buf[:n], wire.Piece) {
			if _, err := io.ReadFull(s.nc, piece); err != nil {
				return err
			}
			if h.Kind == wire.Chunk {
				s.grant(uint64(len(piece)))
			}
		}
		if h.Kind == wire.Chunk { // the trailer costs nothing
			s.came -= wire.TrailerSize
		}
		if err := s.heard(h, buf[:h.Length]); err != nil {
			return err
		}
		if h.Kind == wire.Done {
			next++
			s.get(next)
		}
		head = buf[n : n+wire.HeaderSize]
		if _, err := io.ReadFull(s.nc, head); err != nil {
			return err
		}
	}
}

// grant lets the server send what a receiver like ndferry's clients would let it.
func (s *saturated) grant(n uint64) {
	s.came += n
	s.window.Arrived(n)
	size, step := s.window.Size(wire.Cost(uint32(s.cell)))
	if s.came+size >= s.given+step {
		more := s.came + size - s.given
		s.given += more
		_ = s.write(wire.AppendHeader(nil, wire.Header{Kind: wire.Credit, Index: more})) // reading tells why that fails
	}
}

// heard takes a frame of the server.
func (s *saturated) heard(h wire.Header, payload []byte) error {
	switch h.Kind {
	case wire.Fail:
		return fmt.Errorf("the server says: %s", payload)
	case wire.Chunk:
		s.took()
	case wire.Pong:
		s.answered()
	case wire.Hello:
		var m wire.HelloMessage
		if err := wire.Decode(payload, &m); err != nil {
			return err
		}
		s.credit += m.Credit
	case wire.Credit:
		s.credit += h.Index
	}
	return nil
}

// listen takes what the server has said to one that puts; with wait it waits for something. Who puts also listens, between two pieces: on a
// machine whose processors are all busy another thread would wait for its turn longer than for the answer.
func (s *saturated) listen(wait bool) error {
	flags := syscall.MSG_DONTWAIT
	if wait {
		flags = 0
	}
	buf := make([]byte, 64<<10)
	n, _, err := syscall.Recvfrom(int(s.nc.Fd()), buf, flags)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return err
	case n == 0:
		return io.ErrUnexpectedEOF
	}
	s.said.Feed(buf[:n])
	for {
		f, ok, err := s.said.Next()
		if err != nil || !ok {
			return err
		}
		if err := s.heard(f.Header, f.Payload); err != nil {
			return err
		}
	}
}

func (s *saturated) took() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
	if s.l.counting.Load() {
		s.counted++
	}
}

func (s *saturated) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l.counting.Load() {
		s.times = append(s.times, time.Since(s.asked))
		s.cells = append(s.cells, s.ended-s.before)
	}
	s.asked = time.Time{}
}

// puts sends cells of eight arrays in turn, and the next array for each that is complete.
func (s *saturated) puts() error {
	data := make([]byte, s.cell)
	rand.Read(data)
	trailer := wire.AppendTrailer(nil, wire.Checksum(data), wire.Whole)
	meta := array.Meta{Shape: array.Shape{s.per * s.cell}, Cell: array.Shape{s.cell}, DimNames: array.DefaultDimNames("bulk", 1)}
	var err error
	if meta.DType, err = array.ParseDType("|u1"); err != nil {
		return err
	}
	text, err := meta.AppendWire(nil)
	if err != nil {
		return err
	}
	var streams [pingStreams]uint32
	last, pinged := uint32(0), time.Now()
	for i := 0; ; i++ {
		k, cell := i%pingStreams, i/pingStreams%s.per
		if cell == 0 {
			if streams[k] != 0 {
				done := wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: streams[k], Index: uint64(s.per)}
				if err := s.write(wire.AppendFrame(nil, done, nil)); err != nil {
					return err
				}
			}
			last++
			streams[k] = last
			m := wire.PutMessage{Name: bulkName(k), Array: text, NumPy: []byte(`"|u1"`)}
			rand.Read(m.ID[:])
			if err := s.write(wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: last}, wire.Encode(m))); err != nil {
				return err
			}
		}
		for s.credit < wire.Cost(uint32(s.cell)) {
			if err := s.listen(true); err != nil {
				return err
			}
		}
		s.credit -= wire.Cost(uint32(s.cell))
		h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: streams[k], Index: uint64(cell), Raw: uint32(s.cell), Length: uint32(s.cell)}
		if err := s.write(wire.AppendHeader(nil, h)); err != nil {
			return err
		}
		for piece := range slices.Chunk(data, 256<<10) {
			if err := s.write(piece); err != nil {
				return err
			}
			if err := s.listen(false); err != nil {
				return err
			}
		}
		if err := s.write(trailer); err != nil {
			return err
		}
		s.took()
		if time.Since(pinged) >= pingEvery {
			pinged = time.Now()
			if err := s.ping(); err != nil {
				return err
			}
		}
	}
}

// sum notes the figures.
func (s *saturated) sum() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.times) == 0 || s.counted == 0 {
		s.l.failed(errors.New("no PING was answered"))
		return
	}
	s.l.moved[0].Store(int64(s.counted) * int64(s.cell))
	took := s.l.took.Load() // of counting
	one := float64(took) / float64(s.counted)
	slices.Sort(s.times)
	slices.Sort(s.cells)
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	f := s.l.figures
	at := func(q int) float64 { return float64(s.times[min(len(s.times)*q/100, len(s.times)-1)]) }
	f["chunk_us"] = one / 1e3
	f["ping_n"] = float64(len(s.times))
	f["ping_p50_us"], f["ping_p99_us"], f["ping_max_us"] = at(50)/1e3, at(99)/1e3, at(100)/1e3
	f["ping_p50_chunks"], f["ping_p99_chunks"], f["ping_max_chunks"] = at(50)/one, at(99)/one, at(100)/one
	f["ping_cells_max"] = float64(s.cells[len(s.cells)-1])
}
