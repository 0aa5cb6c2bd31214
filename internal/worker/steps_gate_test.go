//go:build gate && linux

package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/session"
	"ndferry/store/dir"
	"ndferry/wire"
)

// stepEnv holds the stepOrder of a process that is this test binary, run again as a server or a client that dies at a step.
const stepEnv = "NDFERRY_TEST_STEP"

// stepOrder is what such a process does.
type stepOrder struct {
	Role   string // "server", "client", "master" or "worker"
	Step   string // where it dies; "" nowhere
	Nth    int64  // the how manyth time it comes there
	Socket string
	Store  string // of a server
	Driver string // likewise
	Names  []string
	Round  uint64 // of the arrays and ids

	Real bool // realSteps

	WorkerStep string // of a master's workers
	WorkerNth  int64
	Once       string // a file that the first worker makes that dies; others do not
}

// dying ends the process at its step as kill -9 does: nothing of it runs any more.
type dying struct {
	step  string
	nth   int64
	came  atomic.Int64
	once  string
	early atomic.Bool   // the process is not ready: what it does now is no step
	wrote func()        // a cell is in its shard
	last  time.Duration // at the step before it ends, in which clients send what they may
}

func (d *dying) at(event string) {
	if event == d.step && !d.early.Load() && d.came.Add(1) == d.nth && d.first() {
		time.Sleep(d.last)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// first tells that no other process has died yet.
func (d *dying) first() bool {
	if d.once == "" {
		return true
	}
	f, err := os.OpenFile(d.once, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// The sizes of a matrix's arrays, and what a kill may cost of them: it is seen, and is not much work.
var (
	stepCell       = 64 << 10
	stepCells      = 24
	stepCheckpoint = 512 << 10
)

// realSteps makes the sizes those of real transfers, and the checkpoints the default ones, until the function that it returns is called.
func realSteps() (restore func()) {
	cell, cells, checkpoint := stepCell, stepCells, stepCheckpoint
	stepCell, stepCells, stepCheckpoint = 4<<20, 48, 64<<20
	return func() { stepCell, stepCells, stepCheckpoint = cell, cells, checkpoint }
}

func stepArray(round uint64, n int) client.Array {
	a := client.Array{Shape: array.Shape{stepCell * stepCells}}
	a.DType, _ = array.ParseDType("|u1")
	a.Data = make([]byte, a.Shape[0])
	for i := 0; i < len(a.Data); i += 8 {
		v := (uint64(i) + 1) * (round*64 + uint64(n) + 1) * 0x9e3779b97f4a7c15
		for k := range 8 {
			a.Data[i+k] = byte(v >> (8 * k))
		}
	}
	return a
}

func stepID(round uint64, n int) wire.ID { return sweepID(round*64+uint64(n)+1, 0x73) }

func stepOptions(round uint64, n int) client.PutOptions {
	digest := client.CRC32C
	if n%2 == 1 {
		digest = client.SHA256
	}
	return client.PutOptions{ID: stepID(round, n), ChunkBytes: stepCell, Codec: "none", Digest: digest, Resume: true}
}

var _ = addRole(stepEnv, func(text string) {
	var order stepOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		panic(err)
	}
	d := &dying{step: order.Step, nth: order.Nth}
	if order.Real {
		realSteps()
		d.last = 300 * time.Millisecond
	}
	roles := map[string]func(*dying) error{"server": order.serve, "client": order.put, "master": order.master, "worker": order.worker}
	if err := roles[order.Role](d); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
})

// serve runs the server until it dies.
func (o *stepOrder) serve(d *dying) error {
	real, err := dir.NewOS(o.Store)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	d.wrote = func() { os.Stdout.WriteString("w") }
	d.early.Store(true)
	st, err := dir.Open(o.Store, dir.Config{FS: &stepFS{real, d}, Log: quiet})
	if err != nil {
		return err
	}
	ln, err := net.Listen("unix", o.Socket)
	if err != nil {
		return err
	}
	if o.Driver == GoroutineDriver {
		ln = stepListener{ln, d}
	}
	d.early.Store(false)
	fmt.Println("ready")
	return New(st, Config{Driver: o.Driver, Log: quiet, Session: session.Config{Checkpoint: stepCheckpoint}}).Serve(ln)
}

// put puts all arrays at once.
func (o *stepOrder) put(d *dying) error {
	results := make(chan error)
	for n, name := range o.Names {
		go func() {
			nc, err := net.Dial("unix", o.Socket)
			if err != nil {
				results <- err
				return
			}
			d.at("C1 connected")
			c, err := client.New(context.Background(), &stepConn{Conn: nc, d: d}, client.Config{})
			if err == nil {
				a := stepArray(o.Round, n)
				_, err = c.Put(context.Background(), name, a, stepOptions(o.Round, n))
			}
			results <- err
		}()
	}
	for range o.Names {
		if err := <-results; err != nil {
			return err
		}
	}
	return nil
}

// stepFS is a file system in which a server dies.
type stepFS struct {
	dir.FS
	d *dying
}

// class says what of the store a path is.
func class(p string) string {
	base := path.Base(p)
	switch {
	case strings.HasPrefix(p, "state/trash/"):
		return "trash"
	case strings.HasPrefix(base, "c."):
		return "shard"
	case base == ".ndferry":
		return "journal"
	case strings.HasPrefix(p, "state/uploads/"):
		return "upload"
	case strings.HasPrefix(p, "zarr"):
		return "name"
	}
	return base
}

func (s *stepFS) Create(p string) (dir.File, error) {
	f, err := s.FS.Create(p)
	if err != nil {
		return nil, err
	}
	return &stepFile{File: f, d: s.d, class: class(p)}, nil
}

func (s *stepFS) OpenFile(p string, write bool) (dir.File, error) {
	f, err := s.FS.OpenFile(p, write)
	if err != nil {
		return nil, err
	}
	return &stepFile{File: f, d: s.d, class: class(p)}, nil
}

func (s *stepFS) Mkdir(p string) error {
	if class(p) == "upload" {
		s.d.at("W3 header valid")
	}
	return s.FS.Mkdir(p)
}

func (s *stepFS) Rename(from, to string, mode dir.RenameMode) error {
	publish := class(from) == "upload" && class(to) == "name"
	if publish {
		s.d.at("W13 before the rename")
	}
	if class(from) == "upload" && class(to) == "trash" {
		s.d.at("W17 before the old one goes")
	}
	err := s.FS.Rename(from, to, mode)
	if publish && err == nil {
		s.d.at("W13 renamed")
	}
	return err
}

func (s *stepFS) SyncDir(p string) error {
	err := s.FS.SyncDir(p)
	if class(p) == "name" && p != "zarr" {
		s.d.at("W14 directory synced")
	}
	return err
}

type stepFile struct {
	dir.File
	d     *dying
	class string
	index bool // is written: all cells are
}

func (f *stepFile) Allocate(size int64) error {
	err := f.File.Allocate(size)
	if f.class == "shard" {
		f.d.at("W4 allocated")
	}
	return err
}

// WriteAt dies with half of a cell written.
func (f *stepFile) WriteAt(p []byte, off int64) (int, error) {
	switch {
	case f.class == "shard" && off >= int64(stepCell*stepCells):
		f.d.at("W11 digest checked")
		f.index = true
	case f.class == "shard":
		if f.d.step == "W5 cell half written" && f.d.came.Load()+1 == f.d.nth {
			f.File.WriteAt(p[:len(p)/2], off)
		}
		f.d.at("W5 cell half written")
	case f.class == "journal":
		f.d.at("W7 before the journal")
	}
	n, err := f.File.WriteAt(p, off)
	if f.class == "shard" && !f.index && err == nil {
		f.d.wrote()
	}
	return n, err
}

func (f *stepFile) Sync() error {
	switch {
	case f.class == "shard" && f.index:
		f.d.at("W12 final fdatasync")
	case f.class == "shard":
		f.d.at("W6 before fdatasync")
	}
	err := f.File.Sync()
	switch f.class {
	case "journal":
		f.d.at("W8 journal synced")
	case "receipts":
		f.d.at("W13 intent synced")
	}
	return err
}

// stepListener is a listener whose connections take the server along.
type stepListener struct {
	net.Listener
	d *dying
}

func (l stepListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		l.d.at("W2 accepted")
		nc = &stepConn{Conn: nc, d: l.d, server: true}
	}
	return nc, err
}

// stepConn is a connection that knows which frames pass.
type stepConn struct {
	net.Conn
	d       *dying
	server  bool
	in, out wireCount
	chunks  int
}

func (c *stepConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.feed(p[:n], func(h wire.Header, _ []byte) {
		switch {
		case c.server && h.Kind == wire.Finish:
			c.d.at("W10 all cells in")
		case !c.server && h.Kind == wire.Receipt:
			c.d.at("C9 receipt read, not noted")
		}
	})
	return n, err
}

func (c *stepConn) Write(p []byte) (int, error) {
	if c.server {
		return c.answer(p)
	}
	if c.out.left > stepCell/2 && c.out.last.Kind == wire.Chunk {
		if c.d.step == "C5 inside a cell" && c.d.came.Load()+1 == c.d.nth {
			c.Conn.Write(p[:len(p)/2])
		}
		c.d.at("C5 inside a cell")
	}
	n, err := c.Conn.Write(p)
	c.out.feed(p[:n], func(h wire.Header, _ []byte) {
		switch h.Kind {
		case wire.Hello:
			c.d.at("C2 HELLO sent")
		case wire.Put:
			c.d.at("C3 PUT sent")
		case wire.Chunk:
			switch c.chunks++; c.chunks {
			case 1:
				c.d.at("C4 first cell sent")
			case stepCells:
				c.d.at("C7 last cell sent")
			}
			c.d.at("C6 between cells")
		case wire.Finish:
			c.d.at("C8 FINISH sent")
		}
	})
	return n, err
}

// answer writes what a server says. Answers are small: a frame is in one piece.
func (c *stepConn) answer(p []byte) (int, error) {
	acks, receipts := 0, 0
	c.out.feed(p, func(h wire.Header, _ []byte) {
		switch h.Kind {
		case wire.Ack:
			acks++
		case wire.Receipt:
			receipts++
		}
	})
	if receipts > 0 {
		c.d.at("W15 receipt queued")
		if c.d.step == "W16 receipt half written" && c.d.came.Load()+1 == c.d.nth {
			c.Conn.Write(p[:len(p)-wire.HeaderSize/2])
		}
		c.d.at("W16 receipt half written")
	}
	n, err := c.Conn.Write(p)
	if acks > 0 {
		c.d.at("W9 progress sent")
	}
	return n, err
}
