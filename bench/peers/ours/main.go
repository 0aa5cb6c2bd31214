// Ours is the Go client in the comparison of transfers: see package
// bench/peers/bare for the arguments and the output.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"ndferry/array"
	"ndferry/client"
)

func main() {
	log.SetFlags(0)
	size, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	reps, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	if err := run(os.Getenv("BENCH_SERVER"), size, reps, os.Args[4:]); err != nil {
		log.Fatal(err)
	}
}

func run(addr string, size, reps int, opts []string) error {
	ctx := context.Background()
	c, err := client.Dial(ctx, addr, client.Config{})
	if err != nil {
		return err
	}
	defer c.Close()
	data := make([]byte, size)
	rand.Read(data[:min(size, 64<<20)])
	for n := 64 << 20; n < size; n *= 2 {
		copy(data[n:], data[:n])
	}
	into := make([]byte, size)
	clear(into)
	if slices.Contains(opts, "fresh") {
		into = nil
	}
	put := client.PutOptions{}
	if slices.Contains(opts, "sha256") {
		put.Digest = client.SHA256
	}
	f4, err := array.ParseDType("<f4")
	if err != nil {
		return err
	}
	a := client.Array{DType: f4, Shape: array.Shape{size / 4096, 1024}, Data: data}
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
		if _, err := c.Put(ctx, "bench/transfer", a, put); err != nil {
			return err
		}
		middle := time.Now()
		if _, err := c.Get(ctx, "bench/transfer", client.GetOptions{Into: into}); err != nil {
			return err
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
