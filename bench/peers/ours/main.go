// Ours is the Go client in the comparison of transfers: see package
// bench/peers/rounds for the arguments and the output. Its server is ndferry serve.
package main

import (
	"context"
	"slices"

	"ndferry/array"
	"ndferry/bench/peers/rounds"
	"ndferry/client"
)

const name = "bench/transfer"

func main() { rounds.Main(nil, dial) }

// peer is a client: the array that it puts, and where it receives it.
type peer struct {
	c       *client.Client
	array   client.Array
	options client.PutOptions
	into    []byte // nil: each get makes its own
}

// dial knows the options "fresh", new memory for each get, and "sha256".
func dial(addr string, size int, options []string) (rounds.Peer, error) {
	c, err := client.Dial(context.Background(), addr, client.Config{})
	if err != nil {
		return nil, err
	}
	f4, err := array.ParseDType("<f4")
	if err != nil {
		return nil, err
	}
	p := &peer{c: c, array: client.Array{DType: f4, Shape: array.Shape{size / 4096, 1024}, Data: rounds.Random(size)}}
	if !slices.Contains(options, "fresh") {
		p.into = rounds.Warm(size)
	}
	if slices.Contains(options, "sha256") {
		p.options.Digest = client.SHA256
	}
	return p, nil
}

func (p *peer) Put() error {
	_, err := p.c.Put(context.Background(), name, p.array, p.options)
	return err
}

func (p *peer) Get() error {
	_, err := p.c.Get(context.Background(), name, client.GetOptions{Into: p.into})
	return err
}
