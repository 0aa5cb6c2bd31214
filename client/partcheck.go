package client

import (
	"runtime"
	"sync"
	"sync/atomic"

	"ndferry/array"
	"ndferry/wire"
)

// keeper is a Sink that has cells of an earlier attempt, after its Begin.
type keeper interface {
	// resumes tells, before Begin, that there may be some.
	resumes() bool
	// keeps is told where the leaves of cells come (nil without sha256), fills in those it knows, and tells which cells it has; nil: none.
	keeps(leaves [][32]byte) (has func(i int) bool)
	// forget is told that what it has is wrong.
	forget() error
}

// takeUp leaves out the cells that the sink has of an earlier attempt.
func (d *download) takeUp() {
	k, ok := d.base.(keeper)
	if !ok {
		return
	}
	has := k.keeps(d.leaves)
	if has == nil || d.pieces {
		return
	}
	runs, within := 0, false
	for i := range d.got {
		if has(i) && runs <= wire.RangesSent/2 {
			d.got[i], within = true, false
			d.missing--
			continue
		}
		if !within {
			runs++
		}
		within = true
	}
}

// describe asks what the array is before its cells are asked for, when some of them may be there. done tells that all are.
func (c *Client) describe(name string, d *download) (st *Stat, done bool, err error) {
	k, ok := d.sink.(keeper)
	if !ok || d.got != nil || !k.resumes() {
		return nil, false, nil
	}
	b, err := c.ask(wire.Stat, wire.NameMessage{Name: name}, wire.Meta)
	if err != nil {
		return nil, false, err
	}
	st, meta, err := readMeta(b)
	if err != nil {
		return nil, false, err
	}
	switch again, err := d.begin(st, meta); {
	case again != nil:
		d.got = nil
		return nil, false, boundary{again}
	case err != nil:
		return nil, false, err
	case d.missing > 0:
		return nil, false, nil
	}
	return st, true, d.checkRoot(st, meta)
}

// resumes implements keeper.
func (s *NPYSink) resumes() bool { return s.part != nil && s.part.had }

// keeps implements keeper.
func (s *NPYSink) keeps(leaves [][32]byte) func(i int) bool {
	if s.part == nil || s.part.off {
		return nil
	}
	s.part.leaves = leaves
	for i, c := range s.part.cells {
		if c.has && leaves != nil {
			leaves[i] = c.leaf
		}
	}
	return func(i int) bool { return s.part.cells[i].has }
}

// forget implements keeper.
func (s *NPYSink) forget() error {
	if s.part == nil {
		return nil
	}
	return s.part.forget()
}

// forgetBad reads cells of the file, by several goroutines, forgets those that are not what they were and returns their number.
func (p *part) forgetBad(s *NPYSink, cells []int) int {
	var next, bad atomic.Int64
	var running sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(cells)) {
		running.Go(func() {
			var w window
			buf := make([]byte, wire.Piece)
			for {
				k := int(next.Add(1)) - 1
				if k >= len(cells) {
					return
				}
				// Cells may be named twice, and bad ones are only ever forgotten: below, alone.
				if crc, err := s.fileCRC(cells[k], &w, buf); err != nil || crc != p.cells[cells[k]].crc {
					cells[k] = -1 - cells[k]
					bad.Add(1)
				}
			}
		})
	}
	running.Wait()
	for _, i := range cells {
		if i < 0 {
			p.cells[-1-i] = partCell{}
		}
	}
	return int(bad.Load())
}

// fileCRC is the CRC32C of the elements of a cell as they lie in the file.
func (s *NPYSink) fileCRC(i int, w *window, buf []byte) (crc uint32, err error) {
	read := w.readAt
	if s.grid.RunLen(i, s.order)*s.item >= windowSize {
		read = readFullAt
	}
	s.grid.Runs(i, s.order, func(r array.Run) bool {
		off, left := s.offset+int64(r.Array)*int64(s.item), r.Len*s.item
		for left > 0 && err == nil {
			piece := buf[:min(left, len(buf))]
			if err = read(s.file, piece, off); err == nil {
				crc = wire.Update(crc, piece)
			}
			off += int64(len(piece))
			left -= len(piece)
		}
		return err == nil
	})
	return crc, err
}
