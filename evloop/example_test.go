//go:build linux || darwin || freebsd

package evloop_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"

	"ndferry/evloop"
)

// serve runs a loop with one listener until stop is called.
func serve(handler func() evloop.Handler) (addr string, stop func()) {
	loop, err := evloop.New(evloop.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	ln, err := loop.Listen("tcp", "127.0.0.1:0", handler)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- loop.Run(ctx) }()
	return ln.Addr().String(), func() { cancel(); <-done }
}

type upper struct{ evloop.Base }

func (upper) Data(c *evloop.Conn, b []byte) int {
	for _, ch := range b {
		if 'a' <= ch && ch <= 'z' {
			ch -= 'a' - 'A'
		}
		_, _ = c.Write([]byte{ch}) // all of a turn leave in one call
	}
	return len(b)
}

func Example() {
	addr, stop := serve(func() evloop.Handler { return upper{} })
	defer stop()
	c, _ := net.Dial("tcp", addr)
	defer c.Close()
	fmt.Fprint(c, "hello, loop\n")
	line, _ := bufio.NewReader(c).ReadString('\n')
	fmt.Print(line)
	// Output: HELLO, LOOP
}

func ExampleLines() {
	addr, stop := serve(func() evloop.Handler {
		return &evloop.Lines{Max: 80, Line: func(c *evloop.Conn, line []byte) error {
			_, err := c.Write(append([]byte("you said: "), line...))
			return err
		}}
	})
	defer stop()
	c, _ := net.Dial("tcp", addr)
	defer c.Close()
	fmt.Fprint(c, "one\ntwo\n")
	r := bufio.NewReader(c)
	for range 2 {
		line, _ := r.ReadString('\n')
		fmt.Print(line)
	}
	// Output:
	// you said: one
	// you said: two
}

// A payload is read straight into memory that the program chose.
func ExampleFrames() {
	chunk := make([]byte, 1<<20) // pooled, or mapped, or shared
	sum := make(chan int, 1)
	addr, stop := serve(func() evloop.Handler {
		return &evloop.Frames{
			HeaderSize: 4,
			Max:        len(chunk),
			Size:       func(h []byte) (int, error) { return int(binary.LittleEndian.Uint32(h)), nil },
			Into:       func(_ *evloop.Conn, _ []byte, n int) []byte { return chunk[:n] },
			Frame: func(_ *evloop.Conn, _, payload []byte) error {
				total := 0
				for _, b := range payload {
					total += int(b)
				}
				sum <- total
				return nil
			},
		}
	})
	defer stop()
	c, _ := net.Dial("tcp", addr)
	defer c.Close()
	frame := binary.LittleEndian.AppendUint32(nil, 1000)
	for range 1000 {
		frame = append(frame, 3)
	}
	_, _ = c.Write(frame)
	fmt.Println(<-sum)
	// Output: 3000
}

// slow answers with what a worker computed, in order.
type slow struct {
	evloop.Base
	workers *evloop.Offload
}

func (h *slow) Data(c *evloop.Conn, b []byte) int {
	in := append([]byte(nil), b...) // b is the loop's
	var out string
	err := h.workers.Go(c,
		func() { out = fmt.Sprintf("%d bytes\n", len(in)) },
		func(c *evloop.Conn) { _, _ = c.Write([]byte(out)) },
	)
	if err != nil {
		c.Abort(err)
	}
	return len(b)
}

func ExampleOffload() {
	workers := evloop.NewOffload(evloop.OffloadConfig{Workers: 2})
	defer workers.Close()
	addr, stop := serve(func() evloop.Handler { return &slow{workers: workers} })
	defer stop()
	c, _ := net.Dial("tcp", addr)
	defer c.Close()
	fmt.Fprint(c, "12345678")
	_ = c.(*net.TCPConn).CloseWrite() // the answer comes although it is still computed
	answer, _ := io.ReadAll(c)
	fmt.Print(string(answer))
	// Output: 8 bytes
}
