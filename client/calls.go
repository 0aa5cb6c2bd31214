package client

import (
	"context"
	"time"

	"ndferry/array"
	"ndferry/wire"
)

// Stat describes a stored array.
func (c *Client) Stat(ctx context.Context, name string) (*Stat, error) {
	if err := array.CheckName(name); err != nil {
		return nil, invalid("stat", name, err)
	}
	var st *Stat
	err := c.call(ctx, "stat", name, func() error {
		b, err := c.ask(wire.Stat, wire.NameMessage{Name: name}, wire.Meta)
		if err == nil {
			st, _, err = readMeta(b)
		}
		return err
	})
	return st, err
}

// ask sends a request and returns the payload of its answer.
func (c *Client) ask(kind wire.Kind, message any, answer wire.Kind) ([]byte, error) {
	c.request(kind, message)
	if err := c.flush(); err != nil {
		return nil, err
	}
	_, b, err := c.reply(answer)
	return b, err
}

// Delete removes an array.
func (c *Client) Delete(ctx context.Context, name string) error {
	if err := array.CheckName(name); err != nil {
		return invalid("delete", name, err)
	}
	return c.call(ctx, "delete", name, func() error {
		_, err := c.ask(wire.Delete, wire.NameMessage{Name: name}, wire.Done)
		return err
	})
}

// Entry is one array of a list.
type Entry struct {
	Name        string
	DType       string // NumPy
	Shape       array.Shape
	Bytes       int64
	StoredBytes int64
	Created     time.Time
}

// List returns all arrays whose names begin with prefix, a plain string, in byte order.
func (c *Client) List(ctx context.Context, prefix string) ([]Entry, error) {
	if err := array.CheckPrefix(prefix); err != nil {
		return nil, invalid("list", prefix, err)
	}
	var list []Entry
	err := c.call(ctx, "list", prefix, func() error {
		query := wire.ListMessage{Prefix: prefix}
		for {
			b, err := c.ask(wire.List, query, wire.Entries)
			if err != nil {
				return err
			}
			var m wire.EntriesMessage
			if err := wire.Decode(b, &m); err != nil {
				return err
			}
			for _, e := range m.Entries {
				list = append(list, Entry{Name: e.Name, DType: e.DType, Shape: e.Shape, Bytes: e.Bytes, StoredBytes: e.StoredBytes, Created: e.Created})
			}
			if !m.More {
				return nil
			}
			if len(m.Entries) == 0 || m.Entries[len(m.Entries)-1].Name <= query.After {
				return wire.Failf(wire.CodeProtocol, "a page of a list that does not go on")
			}
			query.After = m.Entries[len(m.Entries)-1].Name
		}
	})
	return list, err
}

// Problem is one thing that Verify found wrong.
type Problem struct {
	File string // relative to the store
	Cell int    // -1 when it concerns no single cell
	Text string
}

// Report is what Verify found.
type Report struct {
	Cells    int
	Bytes    int64
	Problems []Problem // at most 100
	BadCount int       // all of them
}

// Verify has the server read everything that is stored of the array and check it. The report names what is wrong; the error is
// ErrIntegrity when something is.
func (c *Client) Verify(ctx context.Context, name string, progress func(cells, total int)) (*Report, error) {
	if err := array.CheckName(name); err != nil {
		return nil, invalid("verify", name, err)
	}
	report := &Report{}
	err := c.call(ctx, "verify", name, func() error {
		c.request(wire.Verify, wire.NameMessage{Name: name})
		if err := c.flush(); err != nil {
			return err
		}
		for {
			h, b, err := c.reply(wire.Report)
			if err != nil {
				return err
			}
			var m wire.ReportMessage
			if err := wire.Decode(b, &m); err != nil {
				return err
			}
			if progress != nil {
				progress(m.CellsDone, m.Cells)
			}
			if h.Raw == 0 {
				continue
			}
			report.Cells, report.Bytes, report.BadCount = m.Cells, m.BytesDone, m.BadCount
			for _, p := range m.Bad {
				bad := Problem{File: p.File, Cell: -1, Text: p.Problem}
				if p.Cell != nil {
					bad.Cell = *p.Cell
				}
				report.Problems = append(report.Problems, bad)
			}
			return nil
		}
	})
	if err == nil && report.BadCount > 0 {
		err = wrap("verify", name, boundary{wire.Failf(wire.CodeIntegrity, "%d things are wrong", report.BadCount)})
	}
	return report, err
}

// Ping waits for an answer of the server and returns how long it took.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	err := c.call(ctx, "ping", "", func() error {
		c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Ping, Index: uint64(begin.UnixNano())}, nil)
		if err := c.flush(); err != nil {
			return err
		}
		_, _, err := c.reply(wire.Pong)
		return err
	})
	return time.Since(begin), err
}
