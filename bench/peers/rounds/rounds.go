// Package rounds is what the Go programs share that transfers are compared with: the arguments, the rounds and what is printed.
//
//	PEER server                        prints "ready ADDR"
//	PEER client SIZE REPS [OPTION...]  asks the server at $BENCH_SERVER, prints medians as JSON
//
// SIZE is in bytes. bench/peers/transfer.py prints the same.
package rounds

import (
	"crypto/rand"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Peer moves one array. A put is over when the other process has it and said so, a get when it is back in our memory.
type Peer interface {
	Put() error
	Get() error
}

// Main does what the arguments of the process ask for, and ends it when that fails. serve is nil where another program is the server;
// dial connects to one for an array of size bytes.
func Main(serve func(net.Listener) error, dial func(addr string, size int, options []string) (Peer, error)) {
	log.SetFlags(0)
	switch args := os.Args[1:]; {
	case len(args) == 1 && args[0] == "server" && serve != nil:
		log.Fatal(listen(serve))
	case len(args) >= 3 && args[0] == "client":
		if err := client(dial, args[1], args[2], args[3:]); err != nil {
			log.Fatal(err)
		}
	default:
		log.Fatalf("usage: %s server | client SIZE REPS [OPTION...]", os.Args[0])
	}
}

func listen(serve func(net.Listener) error) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("ready", ln.Addr())
	return serve(ln)
}

func client(dial func(string, int, []string) (Peer, error), sizeText, repsText string, options []string) error {
	size, err := strconv.Atoi(sizeText)
	if err != nil {
		return err
	}
	reps, err := strconv.Atoi(repsText)
	if err != nil {
		return err
	}
	p, err := dial(os.Getenv("BENCH_SERVER"), size, options)
	if err != nil {
		return err
	}
	return measure(p, size, reps)
}

// measure prints the median seconds of a put and of a get, and the CPU seconds of this process for each 10^9 bytes that it moved.
func measure(p Peer, size, reps int) error {
	warm := max(2, reps/10)
	if size > 1<<30 {
		warm = 1
	}
	var puts, gets []float64
	var before time.Duration
	for i := range warm + reps {
		if i == warm {
			before = cpu()
		}
		start := time.Now()
		if err := p.Put(); err != nil {
			return fmt.Errorf("put: %w", err)
		}
		middle := time.Now()
		if err := p.Get(); err != nil {
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

// Random returns size bytes that no codec makes smaller: 64 MiB from the system's source, again and again.
func Random(size int) []byte {
	data := make([]byte, size)
	rand.Read(data[:min(size, 64<<20)])
	for n := 64 << 20; n < size; n *= 2 {
		copy(data[n:], data[:n])
	}
	return data
}

// Warm returns size bytes of memory that the process has touched, so that no page is first asked for while a transfer is measured.
func Warm(size int) []byte {
	p := make([]byte, size)
	clear(p)
	return p
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
