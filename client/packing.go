package client

import "ndferry/array"

// packedSource gives the cells of a source whose elements do not lie in memory as they are stored: structures with padding or mixed
// byte orders.
type packedSource struct {
	Source
	packing array.Packing
	loose   []byte // a cell as NumPy has it
}

// Cell implements Source.
func (p *packedSource) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	dtype, _, _ := p.Describe()
	if p.loose == nil {
		p.loose = make([]byte, g.CellElements()*dtype.ItemSize())
	}
	data, err := p.Source.Cell(g, i, p.loose)
	if err != nil {
		return nil, err
	}
	p.packing.Pack(buf, data)
	return buf, nil
}

// packedSink gives a sink cells as NumPy has them.
type packedSink struct {
	Sink
	packing array.Packing
	loose   []byte
}

// Begin implements Sink.
func (p *packedSink) Begin(st *Stat, g array.Grid) error {
	p.loose = make([]byte, g.CellElements()*st.DType.ItemSize())
	return p.Sink.Begin(st, g)
}

// Place implements Sink: cells come through memory of the client's.
func (p *packedSink) Place(int) []byte { return nil }

// Cell implements Sink.
func (p *packedSink) Cell(i int, data []byte) error {
	p.packing.Unpack(p.loose, data)
	return p.Sink.Cell(i, p.loose)
}
