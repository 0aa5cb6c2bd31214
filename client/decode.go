package client

import (
	"runtime"

	"ndferry/wire"
	"ndferry/wire/codec"
)

// decoder decodes the cells of a Get by up to GOMAXPROCS goroutines, behind the one that is being received. Its methods are called by
// the receiving goroutine; the sink is called by it too, when a cell is decoded.
type decoder struct {
	d     *download
	ring  []*arrival
	next  int // arrival that is filled next
	first int // oldest arrival that is not finished

	broken bool // nothing can be asked for again
}

// arrival is the memory of one cell that came compressed.
type arrival struct {
	cell  int
	in    []byte // encoded
	out   []byte // decoded, when the sink has no place for it
	place []byte // the sink's, or nil
	err   error
	done  chan struct{} // capacity 1
}

func newDecoder(d *download) *decoder {
	r := &decoder{d: d, ring: make([]*arrival, min(runtime.GOMAXPROCS(0)+1, max(d.grid.Len(), 1)))}
	for i := range r.ring {
		r.ring[i] = &arrival{done: make(chan struct{}, 1)}
	}
	return r
}

// memory returns n bytes for the next cell. When all are in use, it finishes the oldest first, and returns its error.
func (r *decoder) memory(n int) ([]byte, error) {
	if r.next-r.first == len(r.ring) {
		if err := r.finish(); err != nil {
			return nil, err
		}
	}
	a := r.ring[r.next%len(r.ring)]
	if cap(a.in) < n {
		a.in = make([]byte, r.d.size+wire.MinBlosc)
	}
	a.in = a.in[:n]
	return a.in, nil
}

// decode begins to decode the cell that lies in the last memory; place is the sink's, or nil.
func (r *decoder) decode(cell int, place []byte) {
	a := r.ring[r.next%len(r.ring)]
	r.next++
	a.cell, a.place = cell, place
	raw := place
	if raw == nil {
		if a.out == nil {
			a.out = make([]byte, r.d.size)
		}
		raw = a.out
	}
	go func() {
		a.err = codec.Decode(raw, a.in)
		if a.err == nil && r.d.leaves != nil {
			r.d.leaves[cell] = sum(raw)
		}
		a.done <- struct{}{}
	}()
}

// finish waits for the oldest cell and tells the sink.
func (r *decoder) finish() error {
	a := r.ring[r.first%len(r.ring)]
	r.first++
	<-a.done
	if a.err != nil {
		r.d.got[a.cell] = false
		r.d.missing++
		r.d.stored -= int64(len(a.in))
		f := wire.Failf(wire.CodeIntegrity, "cell %d cannot be decoded: %v", a.cell, a.err)
		f.Cell = new(uint64(a.cell))
		if r.broken || r.d.ordered { // those behind it are decoded already
			return f
		}
		return r.d.damage(a.cell, f)
	}
	var data []byte
	if a.place == nil {
		data = a.out
	}
	if err := r.d.sink.Cell(a.cell, data); err != nil {
		return source{err}
	}
	return nil
}

// drain finishes all cells.
func (r *decoder) drain() error {
	for r.first < r.next {
		if err := r.finish(); err != nil {
			return err
		}
	}
	return nil
}

// keep finishes what came, also when the connection broke behind it, so that nothing writes into the sink's memory any more.
func (r *decoder) keep() {
	r.broken = true
	for r.first < r.next {
		if err := r.finish(); err != nil {
			continue // it counts as missing
		}
	}
}

// compressed receives the payload of a compressed CHUNK.
func (c *Client) compressed(d *download, h wire.Header) error {
	memory, err := d.decoder.memory(int(h.Length))
	if err != nil {
		return c.abandonCell(d, h, err)
	}
	aborted, err := c.payload(d, h, memory)
	if err != nil || aborted || d.hurt[int(h.Index)] {
		return err
	}
	d.came(int(h.Index), len(memory))
	d.decoder.decode(int(h.Index), d.sink.Place(int(h.Index)))
	return nil
}

// abandonCell refuses before the payload of a CHUNK was read.
func (c *Client) abandonCell(d *download, h wire.Header, why error) error {
	if _, _, err := c.body(h, c.scratch(int(h.Length))); err != nil && wire.CodeOf(err) != wire.CodeIntegrity {
		return why
	}
	return d.refuse(why)
}
