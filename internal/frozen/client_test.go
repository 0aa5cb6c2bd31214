package frozen

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
	"ndferry/client"
	"ndferry/wire"
)

// TestClient says to the Go client of today what servers said to that of version 1: it asks the same and returns the same.
func TestClient(t *testing.T) {
	if *update {
		t.Skip("the conversations are being recorded")
	}
	for _, tr := range transcripts(t) {
		if !strings.HasPrefix(tr.name, "go-") {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			p := tr.play(t)
			c, err := client.Dial(t.Context(), "unix://"+p.path, client.Config{Timeout: patience})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, todo := range tr.calls {
				if got := perform(t, c, todo); !bytes.Equal(got, todo.Result) {
					t.Errorf("%s %s: %s, it was %s", todo.Op, todo.Name, got, todo.Result)
				}
			}
			if err := p.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// player is a server that says what was recorded.
type player struct {
	path string
	ln   net.Listener
	done chan error
}

func (tr *transcript) play(t testing.TB) *player {
	p := &player{path: filepath.Join(t.TempDir(), "s"), done: make(chan error, 1)}
	var err error
	if p.ln, err = net.Listen("unix", p.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.ln.Close() })
	go func() { p.done <- tr.toClient(p.ln) }()
	return p
}

// end waits until all was said.
func (p *player) end() error {
	select {
	case err := <-p.done:
		return err
	case <-time.After(patience):
		return errors.New("the client asked less than it did")
	}
}

// toClient replays what the server said, and compares what the client asks.
func (tr *transcript) toClient(ln net.Listener) (err error) {
	conns := map[int]net.Conn{}
	token := uint64(0) // of the last PING
	defer func() {
		for _, nc := range conns {
			if err != nil {
				nc.Close()
			}
		}
	}()
	for i, l := range tr.lines {
		nc := conns[l.conn]
		if nc == nil && l.from != 'E' && l.from != 'W' {
			if nc, err = ln.Accept(); err != nil {
				return err
			}
			nc.SetDeadline(time.Now().Add(patience))
			conns[l.conn] = nc
		}
		switch l.from {
		case 'S':
			if h, _, _ := l.frame(); h.Kind == wire.Pong {
				h.Index = token
				l.data = wire.AppendFrame(nil, h, nil)
			}
			if _, err := nc.Write(l.data); err != nil {
				return fmt.Errorf("line %d: %w", i, err)
			}
		case 'X', 'D':
			if err := nc.Close(); err != nil {
				return err
			}
		case 'C':
			b, err := readFrame(nc)
			if err != nil {
				return fmt.Errorf("line %d: %w", i, err)
			}
			want, payload, _ := l.frame()
			got, err := wire.ParseHeader(b)
			if err != nil {
				return err
			}
			if got.Kind == wire.Ping {
				token, want.Index = got.Index, got.Index
			}
			if got.Kind != want.Kind || got.Stream != want.Stream || got.Index != want.Index || got.Raw != want.Raw || got.Flags != want.Flags {
				return fmt.Errorf("line %d: the client said %v, it said %v", i, got, want)
			}
			if want.Kind == wire.Finish && !bytes.Equal(b[wire.HeaderSize:][:got.Length], payload) {
				return fmt.Errorf("line %d: the client finished with %s, it was %s", i, b[wire.HeaderSize:][:got.Length], payload)
			}
		}
	}
	return nil
}

// perform makes a call and returns what of its result every version must return.
func perform(t testing.TB, c *client.Client, todo call) jsontext.Value {
	t.Helper()
	result, err := todo.do(t.Context(), c)
	if f, ok := errors.AsType[*wire.Failure](err); ok {
		result, err = map[string]any{"error": string(f.Code), "retryable": f.Retryable}, nil
	}
	if err != nil {
		t.Fatalf("%s %s: %v", todo.Op, todo.Name, err)
	}
	text, err := json.Marshal(result, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (todo *call) do(ctx context.Context, c *client.Client) (map[string]any, error) {
	switch todo.Op {
	case "ping":
		_, err := c.Ping(ctx)
		return map[string]any{}, err
	case "put":
		a, opts, err := todo.put()
		if err != nil {
			return nil, err
		}
		r, err := c.Put(ctx, todo.Name, a, opts)
		if err != nil {
			return nil, err
		}
		return map[string]any{
			"name": r.Name, "id": r.ID, "nbytes": r.Bytes, "stored_bytes": r.StoredBytes, "cells": r.Cells, "codec": r.Codec, "validated": r.Validated,
			"digest": r.Digest, "root": r.Root, "durability": r.Durability, "created": r.Created,
		}, nil
	case "get":
		a, err := c.Get(ctx, todo.Name, client.GetOptions{})
		if err != nil {
			return nil, err
		}
		return arrayResult(a), nil
	case "read":
		a, err := c.ReadRegion(ctx, todo.Name, func(s array.Shape) (array.Region, error) {
			r, _, err := array.ParseRegion(todo.Region, s)
			return r, err
		}, nil)
		if err != nil {
			return nil, err
		}
		return arrayResult(a), nil
	case "stat":
		st, err := c.Stat(ctx, todo.Name)
		if err != nil {
			return nil, err
		}
		return map[string]any{
			"id": st.ID, "dtype": st.DType.Name(), "shape": st.Shape, "order": st.Order, "chunks": st.Chunks, "codec": st.Codec, "nbytes": st.Bytes,
			"digest": st.Digest, "root": st.Root, "attributes": string(st.Attributes), "durability": st.Durability, "created": st.Created,
		}, nil
	case "list":
		list, err := c.List(ctx, todo.Prefix)
		names := []string{}
		for _, e := range list {
			names = append(names, fmt.Sprintf("%s %s %v %d", e.Name, e.DType, e.Shape, e.StoredBytes))
		}
		return map[string]any{"entries": names}, err
	case "delete":
		return map[string]any{}, c.Delete(ctx, todo.Name)
	case "verify":
		r, err := c.Verify(ctx, todo.Name, nil)
		if r == nil || err != nil && r.BadCount == 0 {
			return nil, err
		}
		return map[string]any{"cells": r.Cells, "nbytes": r.Bytes, "bad": r.BadCount}, nil
	}
	return nil, fmt.Errorf("operation %q", todo.Op)
}

func arrayResult(a *client.Array) map[string]any {
	sum := sha256.Sum256(a.Data)
	return map[string]any{"dtype": a.DType.Name(), "shape": a.Shape, "order": a.Order, "sha256": hex.EncodeToString(sum[:])}
}

// put is what a put stores.
func (todo *call) put() (a client.Array, opts client.PutOptions, err error) {
	if a.DType, err = array.ParseNumPy(todo.NumPy); err != nil {
		return a, opts, err
	}
	a.Shape = todo.Shape
	if todo.Order == "F" {
		a.Order = array.FOrder(len(todo.Shape))
	}
	if a.Data, err = todo.bytes(a.DType.ItemSize()); err != nil {
		return a, opts, err
	}
	opts = client.PutOptions{Cell: todo.Cell, Digest: todo.Digest, Codec: todo.Codec, Shuffle: todo.Shuffle, IfAbsent: todo.IfAbsent, Relaxed: todo.Relaxed, Resume: todo.Resume}
	if todo.Resume {
		opts.Retries = 3
	}
	if todo.Attrs != "" {
		opts.Attributes = []byte(todo.Attrs)
	}
	return a, opts, opts.ID.UnmarshalText([]byte(todo.ID))
}

// bytes repeats the pattern to the size of the array.
func (todo *call) bytes(item int) ([]byte, error) {
	pattern, err := hex.DecodeString(todo.Data)
	if err != nil {
		return nil, err
	}
	n, err := array.Shape(todo.Shape).Bytes(item)
	if err != nil || n == 0 {
		return nil, err
	}
	return bytes.Repeat(pattern, n/len(pattern)+1)[:n], nil
}
