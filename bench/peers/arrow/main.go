// Arrow is Arrow Flight in Go (arrow-go) as a peer of transfers, DoPut and DoGet in batches of 4 MiB: see package
// bench/peers/rounds for the arguments and the output. It is a module of its own, so that its dependencies are no one else's.
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ndferry/bench/peers/rounds"
)

const batch = 4 << 20 / 4 // float32 in 4 MiB

var schema = arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Float32}}, nil)

func main() { rounds.Main(serve, dial) }

// server keeps what was put last.
type server struct {
	flight.BaseFlightServer
	mu    sync.Mutex
	table []arrow.RecordBatch // guarded by mu
}

func (s *server) DoPut(stream flight.FlightService_DoPutServer) error {
	r, err := flight.NewRecordReader(stream)
	if err != nil {
		return err
	}
	defer r.Release()
	var table []arrow.RecordBatch
	for r.Next() {
		b := r.RecordBatch()
		b.Retain()
		table = append(table, b)
	}
	if err := r.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	old := s.table
	s.table = table
	s.mu.Unlock()
	for _, b := range old {
		b.Release()
	}
	return stream.Send(&flight.PutResult{})
}

func (s *server) DoGet(_ *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	for _, b := range s.table {
		if err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Close()
}

func serve(ln net.Listener) error {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20))
	flight.RegisterFlightServiceServer(g, &server{})
	return g.Serve(ln)
}

// peer is a client, and the table that it puts.
type peer struct {
	c       flight.Client
	values  int
	batches []arrow.RecordBatch
}

func dial(addr string, size int, _ []string) (rounds.Peer, error) {
	c, err := flight.NewClientWithMiddleware(addr, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	return &peer{c: c, values: size / 4, batches: batches(size / 4)}, nil
}

// batches cuts n random values.
func batches(n int) (all []arrow.RecordBatch) {
	tile := make([]float32, min(n, 16<<20))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range tile {
		tile[i] = float32(random.NormFloat64())
	}
	values := make([]float32, n)
	for at := 0; at < n; at += len(tile) {
		copy(values[at:], tile)
	}
	for at := 0; at < n; at += batch {
		part := values[at:min(at+batch, n)]
		data := array.NewData(arrow.PrimitiveTypes.Float32, len(part),
			[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Float32Traits.CastToBytes(part))}, nil, 0, 0)
		all = append(all, array.NewRecordBatch(schema, []arrow.Array{array.NewFloat32Data(data)}, int64(len(part))))
	}
	return all
}

func (p *peer) Put() error {
	stream, err := p.c.DoPut(context.Background())
	if err != nil {
		return err
	}
	w := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"a"}})
	for _, b := range p.batches {
		if err := w.Write(b); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (p *peer) Get() error {
	stream, err := p.c.DoGet(context.Background(), &flight.Ticket{Ticket: []byte("a")})
	if err != nil {
		return err
	}
	r, err := flight.NewRecordReader(stream)
	if err != nil {
		return err
	}
	defer r.Release()
	missing := p.values
	var table []arrow.RecordBatch
	for r.Next() {
		b := r.RecordBatch()
		b.Retain()
		table = append(table, b)
		missing -= int(b.NumRows())
	}
	for _, b := range table {
		b.Release()
	}
	if missing != 0 {
		return fmt.Errorf("%d values are missing", missing)
	}
	return r.Err()
}
