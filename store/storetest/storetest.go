// Package storetest is the suite that every store must pass: what package store says of its interface, said as tests.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return mem.New(mem.Config{}) }, storetest.Options{})
//	}
package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	"ndferry/array"
	"ndferry/store"
)

// Options says what the store under test promises.
type Options struct {
	// Durability is what its receipts say; "" stands for store.Memory.
	Durability string
	// Resume tells that a closed upload can be taken up again.
	Resume bool
}

// Run runs the suite. open returns a new, empty store, which the suite closes.
func Run(t *testing.T, open func(t *testing.T) store.Store, options Options) {
	if options.Durability == "" {
		options.Durability = store.Memory
	}
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"shapes", (*suite).shapes},
		{"dtypes", (*suite).dtypes},
		{"receipt", (*suite).receipt},
		{"info", (*suite).info},
		{"sha256", (*suite).sha256},
		{"defaults", (*suite).defaults},
		{"bad specs", (*suite).badSpecs},
		{"bad cells", (*suite).badCells},
		{"bad reads", (*suite).badReads},
		{"incomplete", (*suite).incomplete},
		{"replace while reading", (*suite).replaceWhileReading},
		{"delete while reading", (*suite).deleteWhileReading},
		{"delete", (*suite).delete},
		{"if absent", (*suite).ifAbsent},
		{"commit once", (*suite).commitOnce},
		{"busy", (*suite).busy},
		{"begin again", (*suite).beginAgain},
		{"resume", (*suite).resume},
		{"places", (*suite).places},
		{"conflict keeps the upload", (*suite).conflictKeeps},
		{"list", (*suite).list},
		{"list order", (*suite).listOrder},
		{"names", (*suite).names},
		{"verify", (*suite).verify},
		{"cells from several goroutines", (*suite).parallelCells},
		{"one name, many writers", (*suite).manyWriters},
		{"readers and writers", (*suite).readersAndWriters},
		{"cancelled", (*suite).cancelled},
		{"after the end", (*suite).afterTheEnd},
		{"lend and view", (*suite).lendAndView},
		{"compressed", (*suite).compressed},
		{"repeats", (*suite).repeats},
	} {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			test.run(&suite{T: t, s: s, options: options})
		})
	}
}

type suite struct {
	*testing.T
	s       store.Store
	options Options
}

// noLeaks fails the test when it leaves descriptors open.
func noLeaks(t *testing.T) {
	before := Descriptors(t)
	t.Cleanup(func() {
		if after := Descriptors(t); len(after) > len(before) {
			t.Errorf("descriptors before: %q, after: %q", before, after)
		}
	})
}

// Descriptors returns what the descriptors of this process are open on; nil where the system does not tell.
func Descriptors(t testing.TB) []string {
	t.Helper()
	if runtime.GOOS != "linux" {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			open = append(open, to)
		}
	}
	return open
}

// Sample is an array to be stored: a spec, and the bytes of its cells.
type Sample struct {
	store.Spec
	Whole []byte   // the array in its memory order
	Cells [][]byte // encoded cells
	Info  []store.Cell
	Root  [32]byte
}

// NewSample makes an array of random bytes that follow from the seed. cell nil is the default grid for 4 KiB.
func NewSample(t testing.TB, name, dtype string, shape, cell array.Shape, order array.Order, digest store.DigestKind, seed uint64) *Sample {
	t.Helper()
	d, err := array.ParseDType(dtype)
	if err != nil {
		t.Fatal(err)
	}
	if cell == nil {
		cell = array.DefaultCell(shape, order, d.ItemSize(), 4096)
	}
	s := &Sample{Spec: store.Spec{
		Name: name, NumPy: `"` + d.String() + `"`, Digest: digest, Attributes: []byte(`{"unit": "K", "scale": 1.10}`),
		Meta: array.Meta{DType: d.Stored(), Shape: shape, Cell: cell, Order: order, DimNames: array.DefaultDimNames(name, len(shape))},
	}}
	unlike := fnv.New64a()
	fmt.Fprint(unlike, name, dtype, digest)
	random := rand.New(rand.NewPCG(seed, unlike.Sum64()))
	binary.LittleEndian.PutUint64(s.ID[:], random.Uint64()|1)
	binary.LittleEndian.PutUint64(s.ID[8:], random.Uint64())
	size, err := shape.Bytes(d.ItemSize())
	if err != nil {
		t.Fatal(err)
	}
	s.Whole = make([]byte, size)
	for i := range s.Whole {
		s.Whole[i] = byte(random.Uint32() >> 7)
		if d.Kind() == array.Bool {
			s.Whole[i] &= 1
		}
	}
	s.cut(t)
	return s
}

// cut makes the cells of the whole.
func (s *Sample) cut(t testing.TB) {
	grid, err := s.Meta.Grid()
	if err != nil {
		t.Fatal(err)
	}
	size, err := s.Meta.CellBytes()
	if err != nil {
		t.Fatal(err)
	}
	root := s.Meta.NewRoot()
	for i := range grid.Len() {
		data := make([]byte, size)
		grid.Gather(data, s.Whole, i)
		c := store.Cell{Index: i, Source: i, CRC: crc32.Checksum(data, castagnoli)}
		if s.Digest == store.DigestSHA256 {
			c.Leaf = sha256.Sum256(data)
			root.Write(c.Leaf[:])
		}
		s.Cells, s.Info = append(s.Cells, data), append(s.Info, c)
	}
	if s.Digest == store.DigestSHA256 {
		s.Root = [32]byte(root.Sum(nil))
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Put stores the sample and returns its receipt.
func (s *Sample) Put(t testing.TB, st store.Store) store.Receipt {
	t.Helper()
	r, err := s.TryPut(t, st)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TryPut stores the sample.
func (s *Sample) TryPut(t testing.TB, st store.Store) (store.Receipt, error) {
	u, receipt, err := st.Begin(t.Context(), s.Spec)
	if err != nil {
		return store.Receipt{}, err
	}
	if receipt != nil {
		return *receipt, nil
	}
	defer u.Close()
	durable := map[int]bool{}
	for _, r := range u.Durable() {
		for i := range r.Count {
			durable[r.First+i] = true
		}
	}
	for i, data := range s.Cells {
		if durable[i] {
			continue
		}
		if err := u.Write(t.Context(), s.Info[i], data); err != nil {
			return store.Receipt{}, err
		}
	}
	return u.Commit(t.Context(), s.Root)
}

// Check fails the test unless the store has the sample, whole, under its name.
func (s *Sample) Check(t testing.TB, st store.Store) {
	t.Helper()
	a, err := st.Open(t.Context(), s.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s.CheckArray(t, a)
}

// CheckArray fails the test unless the array is the sample.
func (s *Sample) CheckArray(t testing.TB, a store.Array) {
	t.Helper()
	if id := a.Info().ID; id != s.ID {
		t.Errorf("%s: array of transfer %x, want %x", s.Name, id, s.ID)
		return
	}
	for i, want := range s.Cells {
		c, n, err := a.Cell(i)
		if err != nil {
			t.Fatal(err)
		}
		if c != s.Info[i] || n != len(want) {
			t.Errorf("%s: cell %d is recorded as %+v of %d bytes, want %+v of %d", s.Name, i, c, n, s.Info[i], len(want))
		}
		got := make([]byte, n)
		if err := a.Read(t.Context(), i, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: cell %d has other bytes", s.Name, i)
		}
	}
}

// sample makes an array of ten cells.
func (s *suite) sample(name string, seed uint64) *Sample {
	s.Helper()
	return NewSample(s, name, "<f4", array.Shape{100, 30}, array.Shape{10, 30}, nil, "", seed)
}

// begin opens an upload that must open.
func (s *suite) begin(spec store.Spec) store.Upload {
	s.Helper()
	u, receipt, err := s.s.Begin(s.Context(), spec)
	if err != nil || receipt != nil {
		s.Fatalf("Begin: receipt %v, error %v", receipt, err)
	}
	return u
}

// write writes cells that must go.
func (s *suite) write(u store.Upload, x *Sample, cells ...int) {
	s.Helper()
	for _, i := range cells {
		if err := u.Write(s.Context(), x.Info[i], x.Cells[i]); err != nil {
			s.Fatal(err)
		}
	}
}
