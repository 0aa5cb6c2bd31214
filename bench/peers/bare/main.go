// Bare is the limit that transfers are compared with: the same bytes from one
// process to another over loopback TCP, with nothing but Write and ReadFull.
// See package bench/peers/rounds for the arguments and the output.
//
// A put sends the bytes to warm memory of the server and waits for one byte;
// a get asks and reads them to warm memory.
package main

import (
	"encoding/binary"
	"io"
	"net"

	"ndferry/bench/peers/rounds"
)

const request = 9 // operation, size

func main() { rounds.Main(serve, dial) }

func serve(ln net.Listener) error {
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

// peer is a client: the bytes that it sends, and where it receives them.
type peer struct {
	c          net.Conn
	data, into []byte
	head, one  []byte
}

func dial(addr string, size int, _ []string) (rounds.Peer, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &peer{c: c, data: rounds.Random(size), into: rounds.Warm(size), head: make([]byte, request), one: make([]byte, 1)}
	binary.LittleEndian.PutUint64(p.head[1:], uint64(size))
	return p, nil
}

func (p *peer) Put() error {
	p.head[0] = 'p'
	both := net.Buffers{p.head, p.data}
	if _, err := both.WriteTo(p.c); err != nil {
		return err
	}
	_, err := io.ReadFull(p.c, p.one)
	return err
}

func (p *peer) Get() error {
	p.head[0] = 'g'
	if _, err := p.c.Write(p.head); err != nil {
		return err
	}
	_, err := io.ReadFull(p.c, p.into)
	return err
}
