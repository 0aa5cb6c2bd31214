//go:build linux || darwin || freebsd

// Fdrate measures how many descriptors a second this package moves from one
// process to another, received and closed there. It prints one figure,
// descriptors per second, from the first send to the receiver's answer after
// the last close. bench/peers/fdrate.c is the same program in C.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"ndferry/fdpass"
)

func main() {
	total := flag.Int("n", 200_000, "descriptors to move")
	batch := flag.Int("batch", 1, "descriptors in each message")
	size := flag.Int("size", 128, "bytes of data in each message")
	receiver := flag.Bool("receiver", false, "be the receiving process (internal)")
	flag.Parse()
	messages := *total / *batch
	var err error
	if *receiver {
		err = receive(messages, *batch, *size)
	} else {
		err = send(messages, *batch, *size)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fdrate:", err)
		os.Exit(1)
	}
}

func send(messages, batch, size int) error {
	lent, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer lent.Close()
	c, end, err := fdpass.PairFile(fdpass.Seqpacket)
	if err != nil {
		return err
	}
	defer c.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, append(os.Args[1:], "-receiver")...)
	child.Stderr = os.Stderr
	child.ExtraFiles = []*os.File{end}
	if err := child.Start(); err != nil {
		return err
	}
	end.Close()
	answer := make([]byte, 1)
	if _, _, err := c.Recv(answer); err != nil { // the receiver is ready
		return err
	}
	fds := slices.Repeat([]int{int(lent.Fd())}, batch)
	msg := make([]byte, size)
	start := time.Now()
	for range messages {
		if err := c.SendFDs(msg, fds...); err != nil {
			return err
		}
	}
	if _, _, err := c.Recv(answer); err != nil { // it has closed the last one
		return err
	}
	fmt.Printf("%.0f\n", float64(messages*batch)/time.Since(start).Seconds())
	return child.Wait()
}

func receive(messages, batch, size int) error {
	c, err := fdpass.Inherited(3)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send([]byte{0}); err != nil {
		return err
	}
	buf := make([]byte, size)
	var files fdpass.Files
	for range messages {
		n, err := c.RecvInto(buf, &files)
		if err != nil {
			return err
		}
		if n != size {
			return fmt.Errorf("message of %d bytes, want %d", n, size)
		}
		if err := files.Expect(batch); err != nil {
			return err
		}
		if err := files.Close(); err != nil {
			return err
		}
	}
	return c.Send([]byte{0})
}
