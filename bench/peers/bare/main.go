// Bare is the limit that transfers are compared with: the same bytes from one
// process to another over loopback TCP, with nothing but Write and ReadFull.
//
//	bare server            prints "ready ADDR"
//	bare client SIZE REPS  asks the server at $BENCH_SERVER, prints medians as JSON
//
// A put sends SIZE bytes to warm memory of the server and waits for one byte;
// a get asks and reads SIZE bytes to warm memory.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const request = 9 // operation, size

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == "server" {
		log.Fatal(serve())
	}
	if len(os.Args) != 4 || os.Args[1] != "client" {
		log.Fatal("usage: bare server | bare client SIZE REPS")
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

func serve() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("ready", ln.Addr())
	var data []byte // one client at a time
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		data = answer(c, data)
		c.Close()
	}
}

func answer(c net.Conn, data []byte) []byte {
	head := make([]byte, request)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return data
		}
		size := int(binary.LittleEndian.Uint64(head[1:]))
		if size > len(data) {
			data = make([]byte, size)
		}
		var err error
		if head[0] == 'p' {
			if _, err = io.ReadFull(c, data[:size]); err == nil {
				_, err = c.Write([]byte{1})
			}
		} else {
			_, err = c.Write(data[:size])
		}
		if err != nil {
			return data
		}
	}
}

func client(addr string, size, reps int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	data := make([]byte, size)
	rand.Read(data[:min(size, 64<<20)])
	for n := 64 << 20; n < size; n *= 2 {
		copy(data[n:], data[:n])
	}
	into := make([]byte, size)
	clear(into)
	var puts, gets []float64
	head := make([]byte, request)
	binary.LittleEndian.PutUint64(head[1:], uint64(size))
	one := make([]byte, 1)
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
		head[0] = 'p'
		both := net.Buffers{head, data}
		if _, err := both.WriteTo(c); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, one); err != nil {
			return err
		}
		middle := time.Now()
		head[0] = 'g'
		if _, err := c.Write(head); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, into); err != nil {
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
