//go:build gate && linux

package worker

import (
	"context"
	"flag"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/client"
)

var (
	longDelay = flag.Duration("longlink-delay", 25*time.Millisecond, "what BenchmarkLongLink's link takes, one way")
	longRate  = flag.Float64("longlink-rate", 100e6, "bytes a second that it carries")
	longQueue = flag.Duration("longlink-queue", 50*time.Millisecond, "what its queue holds, in time")
	longBytes = flag.Int("longlink-bytes", 256<<20, "bytes of the array")
)

// longLink carries packets from one TUN device to another, each after a delay and no more in a second than it may.
type longLink struct{ queue chan delayed }

type delayed struct {
	due    time.Time
	packet []byte
}

// take puts what comes into the queue, and drops what does not fit.
func (l *longLink) take(from *os.File) {
	defer close(l.queue)
	var free time.Time // when the link has sent what it has
	for {
		p := make([]byte, badMTU)
		n, err := from.Read(p)
		if err != nil {
			return
		}
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > *longQueue {
			continue
		}
		free = free.Add(time.Duration(float64(n) / *longRate * 1e9))
		l.queue <- delayed{free.Add(*longDelay), p[:n]}
	}
}

func (l *longLink) give(to *os.File) {
	for p := range l.queue {
		time.Sleep(time.Until(p.due))
		to.Write(p.packet) // fails when the test ends
	}
}

// BenchmarkLongLink puts and gets an array over a link of 100 MB/s that takes 50 ms there and back: many times what a cell is.
func BenchmarkLongLink(b *testing.B) {
	here, ln := newLine(b, func(here, there *os.File) (carriers []func()) {
		for _, way := range [][2]*os.File{{here, there}, {there, here}} {
			l := &longLink{make(chan delayed, 1<<17)}
			carriers = append(carriers, func() { l.take(way[0]) }, func() { l.give(way[1]) })
		}
		return carriers
	})
	srv, _ := serve(b, stores["mem"](b), Config{})
	go srv.Serve(ln)
	x := client.Array{DType: dtype(b, "|u1"), Shape: array.Shape{*longBytes}, Data: make([]byte, *longBytes)}
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(x.Data)
	connect := func(b *testing.B) *client.Client {
		var nc net.Conn
		var err error
		here.run(func() { nc, err = net.DialTimeout("tcp4", "10.77.0.2:9000", 10*time.Second) })
		if err != nil {
			b.Fatal(err)
		}
		c, err := client.New(context.Background(), nc, client.Config{})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	b.Run("put", func(b *testing.B) {
		c := connect(b)
		defer c.Close()
		b.SetBytes(int64(*longBytes))
		for b.Loop() {
			if _, err := c.Put(b.Context(), "long", x, client.PutOptions{Codec: "none"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		c := connect(b)
		defer c.Close()
		into := make([]byte, *longBytes)
		b.SetBytes(int64(*longBytes))
		for b.Loop() {
			if _, err := c.Get(b.Context(), "long", client.GetOptions{Into: into}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
