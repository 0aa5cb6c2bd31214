package client

import (
	"encoding/binary"
	"slices"

	"ndferry/array"
	"ndferry/wire"
)

// Repeater is a Sink that can make a cell of one that it got before: what repeats in the array then travels once.
type Repeater interface {
	Sink
	// Repeat is told that cell i has the bytes of cell source, which came before.
	Repeat(i, source int) error
}

// repeaterOf is the sink as a Repeater, or nil. Sinks around another are as that one is.
func repeaterOf(s Sink) Repeater {
	var inner Sink
	switch s := s.(type) {
	case *packedSink:
		inner = s.Sink
	case *sharedSink:
		inner = s.Sink
	default:
		r, _ := s.(Repeater)
		return r
	}
	if repeaterOf(inner) == nil {
		return nil
	}
	return s.(Repeater)
}

// takes is what may stand for a CHUNK of the download.
func (d *download) takes() []string {
	if repeaterOf(d.sink) != nil {
		return []string{wire.FeatureFill, wire.FeatureAlias}
	}
	return []string{wire.FeatureFill}
}

// repeated gives the sink the cells of an ALIAS. Those that are like a cell which came damaged are asked for again, as it is.
func (c *Client) repeated(d *download, h wire.Header, payload []byte) error {
	sink := repeaterOf(d.sink)
	if sink == nil || len(payload) != wire.AliasSize {
		return wire.Failf(wire.CodeProtocol, "%v among the cells of a GET that does not take it", h.Kind)
	}
	first, like := int(h.Index), binary.LittleEndian.Uint64(payload)
	if like >= h.Index {
		return wire.Failf(wire.CodeProtocol, "ALIAS of cell %d to %d, which is not before", first, like)
	}
	if d.decoder != nil {
		if err := d.decoder.drain(); err != nil {
			return c.abandon(err)
		}
	}
	d.hashing.wait() // the leaves of sources are those of their repeats
	for k := range int(h.Raw) {
		i, of := first+k, int(like)+k
		switch {
		case i >= len(d.got) || d.got[i]:
			return wire.Failf(wire.CodeProtocol, "cell %d came twice or was not asked for", i)
		case d.hurt[of]:
			d.hurt[i] = true
			continue
		case !d.got[of] || !d.wants(of) || !d.grid.Region(i).Count.Equal(d.grid.Region(of).Count):
			return wire.Failf(wire.CodeProtocol, "ALIAS of cell %d to %d, which is not alike or did not come", i, of)
		}
		d.came(i, 0)
		if d.leaves != nil {
			d.leaves[i] = d.leaves[of]
		}
		if err := sink.Repeat(i, of); err != nil {
			return c.abandon(source{err})
		}
	}
	return nil
}

// wants tells that the cell is one of those that this download is for.
func (d *download) wants(cell int) bool {
	return d.only == nil || slices.ContainsFunc(d.only, func(r [2]uint64) bool {
		return uint64(cell) >= r[0] && uint64(cell)-r[0] < r[1]
	})
}

// Repeat implements Repeater.
func (m *memorySink) Repeat(i, source int) error {
	item := m.DType.ItemSize()
	m.spare = grown(m.spare, m.grid.CellElements()*item)
	m.grid.Gather(m.spare, m.Data, source)
	m.grid.Scatter(m.Data, m.spare, i)
	return nil
}

// Repeat implements Repeater: the cell is read from the file again.
func (s *NPYSink) Repeat(i, source int) error {
	s.spare = grown(s.spare, s.grid.CellElements()*s.item)
	read := s.window.readAt
	if s.grid.RunLen(source, s.order)*s.item >= windowSize {
		read = readFullAt
	}
	var failed error
	s.grid.Runs(source, s.order, func(r array.Run) bool {
		failed = read(s.file, s.spare[r.Cell*s.item:][:r.Len*s.item], s.offset+int64(r.Array)*int64(s.item))
		return failed == nil
	})
	s.window.forget()
	if failed != nil {
		return failed
	}
	return s.Cell(i, s.spare)
}

// Repeat implements Repeater.
func (p *packedSink) Repeat(i, source int) error { return repeaterOf(p.Sink).Repeat(i, source) }

// Repeat implements Repeater.
func (s *sharedSink) Repeat(i, source int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := repeaterOf(s.Sink).Repeat(i, source); err != nil {
		return err
	}
	s.moved()
	return nil
}

// grown is p with at least n bytes, of any content.
func grown(p []byte, n int) []byte {
	if cap(p) < n {
		p = make([]byte, n)
	}
	return p[:n]
}
