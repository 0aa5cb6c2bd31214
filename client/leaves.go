package client

import (
	"crypto/sha256"
	"runtime"
	"sync"

	"ndferry/array"
)

// besides is the size from which on a cell is hashed on a goroutine of its own.
const besides = 128 << 10

// hasher makes the leaves of cells while they are being sent, on as many goroutines as leave the sender a processor; when all are sent the
// sender helps. It runs at most as many cells ahead as the ring has places. Its methods belong to the sending goroutine.
type hasher struct {
	u       *upload
	ring    []*hashing
	next    int           // place of the next cell
	waiting chan *hashing // to be hashed, in order; closed when no more come
	drained bool
}

// hashing is one cell that is being hashed.
type hashing struct {
	cell int
	data []byte
	buf  []byte // memory for a cell of a source that has none
	leaf [32]byte
	done chan struct{} // capacity 1
	busy bool
}

// hashAhead bounds what is sent and not hashed yet of an array whose cells lie in memory as they are sent.
const hashAhead = 32 << 20

func newHasher(u *upload) *hasher {
	workers := max(runtime.GOMAXPROCS(0)-1, 1)
	places := workers + 2
	if a, ok := u.src.(*Array); ok && u.grid.Len() > 0 && a.inPlace(u.grid, 0) {
		places = max(places, hashAhead/u.size)
	}
	h := &hasher{u: u, ring: make([]*hashing, min(places, max(u.grid.Len(), 1)))}
	for i := range h.ring {
		h.ring[i] = &hashing{done: make(chan struct{}, 1)}
	}
	h.waiting = make(chan *hashing, len(h.ring))
	for range min(workers, len(h.ring)) {
		go h.work()
	}
	return h
}

// work hashes what waits until no more comes. Several goroutines may do so.
func (h *hasher) work() {
	for p := range h.waiting {
		p.leaf = array.Leaf(p.data)
		p.done <- struct{}{}
	}
}

// read returns cell i, which stays as it is until as many more were read as the ring has places, and begins to hash it.
func (h *hasher) read(i int) ([]byte, error) {
	p := h.ring[h.next]
	h.next = (h.next + 1) % len(h.ring)
	h.finish(p)
	a, stable := h.u.src.(*Array)
	if p.buf == nil && !(stable && a.inPlace(h.u.grid, i)) {
		p.buf = make([]byte, h.u.size)
	}
	data, err := h.u.read(i, p.buf)
	if err != nil {
		return nil, err
	}
	if !stable && &data[0] != &p.buf[0] {
		copy(p.buf, data)
		data = p.buf
	}
	if h.u.unhashed(i) {
		p.cell, p.data, p.busy = i, data, true
		h.waiting <- p
	}
	return data, nil
}

// finish waits for a place to be free.
func (h *hasher) finish(p *hashing) {
	if p.busy {
		<-p.done
		p.busy = false
		h.u.noteLeaf(p.cell, p.leaf)
	}
}

// drain waits for all, and hashes meanwhile. Nothing is read any more.
func (h *hasher) drain() {
	if h.drained {
		return
	}
	h.drained = true
	close(h.waiting)
	h.work()
	for _, p := range h.ring {
		h.finish(p)
	}
}

// arrived makes leaves of cells that were received while later ones come. The zero value is ready; it belongs to the receiving
// goroutine.
type arrived struct {
	running sync.WaitGroup
	places  chan struct{} // one for each that runs
}

// hash makes the leaf of memory, which must not change before wait returned.
func (a *arrived) hash(leaf *[32]byte, memory []byte) {
	if a.places == nil {
		a.places = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	a.places <- struct{}{}
	a.running.Go(func() {
		*leaf = array.Leaf(memory)
		<-a.places
	})
}

func (a *arrived) wait() { a.running.Wait() }

// leafOf makes the leaf of a cell that came and lies in memory. placed tells that this is the sink's place for it.
func (d *download) leafOf(cell int, memory []byte, placed bool) {
	sink := d.sink
	if shared, ok := sink.(*sharedSink); ok {
		sink = shared.Sink
	}
	ours := false // of others nobody knows what they do with it
	switch sink.(type) {
	case *memorySink, *limitedSink:
		ours = true
	}
	if ours && placed && len(memory) >= besides {
		d.hashing.hash(&d.leaves[cell], memory)
		return
	}
	d.leaves[cell] = sha256.Sum256(memory)
}
