// Arrow is Arrow Flight in Go (arrow-go) as a peer of transfers, DoPut and DoGet in batches of 4 MiB: see package
// bench/peers/bare for the arguments and the output. It is a module of its own, so that its dependencies are no one else's.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const batch = 4 << 20 / 4 // float32 in 4 MiB

var schema = arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Float32}}, nil)

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == "server" {
		log.Fatal(serve())
	}
	size, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	reps, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	if err := client(os.Getenv("BENCH_SERVER"), size, reps); err != nil {
		log.Fatal(err)
	}
}

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

func serve() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20))
	flight.RegisterFlightServiceServer(g, &server{})
	fmt.Println("ready", ln.Addr())
	return g.Serve(ln)
}

func client(addr string, size, reps int) error {
	c, err := flight.NewClientWithMiddleware(addr, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		return err
	}
	defer c.Close()
	batches := batches(size / 4)
	var puts, gets []float64
	warm := max(2, reps/10)
	if size > 1<<30 {
		warm = 1
	}
	var before time.Duration
	for i := range warm + reps {
		if i == warm {
			before = cpu()
		}
		start := time.Now()
		if err := put(c, batches); err != nil {
			return fmt.Errorf("put: %w", err)
		}
		middle := time.Now()
		if err := get(c, size/4); err != nil {
			return fmt.Errorf("get: %w", err)
		}
		if i >= warm {
			puts = append(puts, middle.Sub(start).Seconds())
			gets = append(gets, time.Since(middle).Seconds())
		}
	}
	perGB := (cpu() - before).Seconds() / (2 * float64(size) * float64(reps) / 1e9)
	fmt.Printf(`{"put":%.9f,"get":%.9f,"cpu_per_gb":%.4f}`+"\n", median(puts), median(gets), perGB)
	return nil
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

func put(c flight.Client, batches []arrow.RecordBatch) error {
	stream, err := c.DoPut(context.Background())
	if err != nil {
		return err
	}
	w := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"a"}})
	for _, b := range batches {
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

func get(c flight.Client, n int) error {
	stream, err := c.DoGet(context.Background(), &flight.Ticket{Ticket: []byte("a")})
	if err != nil {
		return err
	}
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
		n -= int(b.NumRows())
	}
	for _, b := range table {
		b.Release()
	}
	if n != 0 {
		return fmt.Errorf("%d values are missing", n)
	}
	return r.Err()
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
