package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"ndferry/array"
	"ndferry/client"
)

// sample is the leaf (spec/WIRE.md §5.7) of a chunk of a file, with chunks of sampleChunk at most, whatever those of the transfer are: what
// is left of a transfer may be less than sixteen of its chunks.
type sample struct {
	Chunk  int    `json:"chunk"`
	SHA256 string `json:"sha256"`
}

const (
	samples     = 16
	sampleChunk = 1 << 20

	// samplePiece is read and hashed at a time: it stays in the second-level cache.
	samplePiece = 256 << 10
)

// leavesOf returns the leaves of chunks of a .npy file; of random ones when chunks is nil.
func leavesOf(file string, size int, chunks []int) ([]sample, error) {
	n, err := client.OpenNPY(file)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	dtype, shape, order := n.Describe()
	grid, err := array.NewGrid(shape, array.DefaultCell(shape, order, dtype.ItemSize(), size), order)
	if err != nil {
		return nil, err
	}
	if chunks == nil {
		chunks = rand.Perm(grid.Len())[:min(samples, grid.Len())]
	}
	found := make([]sample, len(chunks))
	var next atomic.Int64
	workers := min(runtime.NumCPU(), len(chunks))
	defer spareProcessors(workers)()
	failures := make([]error, workers)
	var running sync.WaitGroup
	for w := range failures {
		running.Go(func() {
			s, err := openSampler(file, grid, dtype.ItemSize())
			if err != nil {
				failures[w] = err
				return
			}
			defer s.close()
			for i := next.Add(1) - 1; i < int64(len(chunks)) && failures[w] == nil; i = next.Add(1) - 1 {
				found[i], failures[w] = s.sample(chunks[i])
			}
		})
	}
	running.Wait()
	return found, errors.Join(failures...)
}

var processors sync.Mutex

// spareProcessors lets n goroutines compute, or sleep in system calls, beside those that send and receive: the scheduler looks at the network
// at once only where a processor is idle, and otherwise every 10 ms. The caller calls what it returns when they are done.
func spareProcessors(n int) (done func()) {
	add := func(n int) {
		processors.Lock()
		defer processors.Unlock()
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
	}
	add(n)
	return func() { add(-n) }
}

// sampler makes leaves of a file.
type sampler struct {
	source *client.NPYFile
	file   *os.File
	grid   array.Grid
	item   int
	buf    []byte
}

func openSampler(file string, grid array.Grid, item int) (*sampler, error) {
	n, err := client.OpenNPY(file)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		n.Close()
		return nil, err
	}
	return &sampler{source: n, file: f, grid: grid, item: item}, nil
}

func (s *sampler) close() {
	s.source.Close()
	s.file.Close()
}

func (s *sampler) sample(chunk int) (sample, error) {
	if chunk < 0 || chunk >= s.grid.Len() {
		return sample{}, fmt.Errorf("chunk %d of %d", chunk, s.grid.Len())
	}
	leaf, err := s.leaf(chunk)
	return sample{Chunk: chunk, SHA256: hex.EncodeToString(leaf[:])}, err
}

func (s *sampler) leaf(chunk int) (leaf [32]byte, err error) {
	size := s.grid.CellElements() * s.item
	first, n, ok := s.grid.Contiguous(chunk)
	if !ok {
		if len(s.buf) < size {
			s.buf = make([]byte, size)
		}
		data, err := s.source.Cell(s.grid, chunk, s.buf[:size])
		return sha256.Sum256(data), err
	}
	if len(s.buf) < samplePiece {
		s.buf = make([]byte, samplePiece)
	}
	at := s.source.Header().DataOffset + int64(first)*int64(s.item)
	h := sha256.New()
	for have := n * s.item; size > 0; {
		piece := s.buf[:min(samplePiece, size)]
		got := min(have, len(piece))
		if _, err := s.file.ReadAt(piece[:got], at); err != nil {
			return leaf, err
		}
		clear(piece[got:])
		h.Write(piece)
		at, have, size = at+int64(got), have-got, size-len(piece)
	}
	return [32]byte(h.Sum(nil)), nil
}
