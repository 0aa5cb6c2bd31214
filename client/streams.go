package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"ndferry/array"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// MaxStreams is the most connections that one transfer may use.
const MaxStreams = 64

// further returns up to n connections besides c to the same server; fewer when it does not take more. They stay open until c is closed.
func (c *Client) further(ctx context.Context, n int) []*Client {
	if c.addr == "" {
		return nil
	}
	c.state.Lock()
	c.more = slices.DeleteFunc(c.more, func(l *Client) bool { return l.whyBroken() != nil })
	have := len(c.more)
	c.state.Unlock()
	var dials sync.WaitGroup
	for range n - have {
		dials.Go(func() {
			l, err := Dial(ctx, c.addr, c.cfg)
			if err != nil {
				return
			}
			c.state.Lock()
			defer c.state.Unlock()
			if c.broken == ErrClosed {
				l.nc.Close()
				return
			}
			c.more = append(c.more, l)
		})
	}
	dials.Wait()
	c.state.Lock()
	defer c.state.Unlock()
	return slices.Clone(c.more[:min(n, len(c.more))])
}

// strand is the failure of one of several connections. The transfer may go on with a new attempt on all of them.
type strand struct {
	err   error
	again bool // the same may succeed later
}

func (s strand) Error() string { return s.err.Error() }
func (s strand) Unwrap() error { return s.err }

// on runs f as an operation on the connection l and returns its failure as a strand.
func on(ctx context.Context, l *Client, op, name string, f func() error) error {
	err := l.call(ctx, op, name, f)
	if err == nil {
		return nil
	}
	again := l.mayPass(ctx, err)
	if e, ok := errors.AsType[*Error](err); ok {
		err = e.Err // the caller names operation and array too
	}
	return strand{err, again}
}

// feed hands the cells of an upload to several connections. Safe for several goroutines.
type feed struct {
	u      *upload
	stable bool // what the source returns stays as it is

	mu   sync.Mutex
	next int   // guarded by mu
	done int64 // guarded by mu; cells that the server has or that were sent
	err  error // guarded by mu; why no more cells are given out
}

// take returns the next cell, in memory of the source's or in buf; i is -1 when there is none, or when the feed has failed.
func (f *feed) take(buf []byte) (i int, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.err == nil && f.next < f.u.grid.Len() {
		i = f.next
		f.next++
		if f.u.has(i) {
			continue
		}
		data, err := f.u.read(i, buf)
		if err != nil {
			f.err = source{fmt.Errorf("read cell %d: %w", i, err)}
			break
		}
		if !f.stable && &data[0] != &buf[0] {
			copy(buf, data)
			data = buf
		}
		return i, data
	}
	return -1, nil
}

// fail ends the feed; the first reason counts.
func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *feed) why() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// sent notes that a cell is on its way.
func (f *feed) sent() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done++
	if f.u.opts.Progress != nil {
		f.u.opts.Progress(f.done*int64(f.u.size), int64(f.u.grid.Len())*int64(f.u.size))
	}
}

// streams is how many connections a Put should use.
func (c *Client) streams(u *upload) int {
	if u.msg.Sparse || !slices.Contains(c.peer.Features, wire.FeatureJoin) {
		return 1
	}
	left := u.grid.Len()
	for i := range left {
		if u.accepted(i) {
			left--
		}
	}
	return max(1, min(u.opts.Streams, left, MaxStreams))
}

// putShared sends the cells of a Put that was accepted on this connection and on others. A connection that cannot join is done
// without; when one breaks later nobody knows which of its cells came, so the PUT is cancelled and asked for again on those that are whole.
func (c *Client) putShared(ctx context.Context, u *upload, others []*Client) (*Receipt, error) {
	_, stable := u.src.(*Array)
	f := &feed{u: u, stable: stable, done: int64(u.durable)}
	var running sync.WaitGroup
	for _, l := range others {
		running.Go(func() {
			if err := on(ctx, l, "put", u.msg.Name, func() error { return l.putJoined(f) }); err != nil {
				f.fail(err)
			}
		})
	}
	_, err := c.share(f, false)
	if err != nil {
		f.fail(err)
		if _, ok := errors.AsType[boundary](err); !ok {
			for _, l := range others {
				l.breakWith(err)
			}
		}
		running.Wait()
		return nil, err
	}
	running.Wait()
	why := f.why()
	if why == nil {
		return c.finish(u)
	}
	lost, again := errors.AsType[strand](why)
	again = again && lost.again && u.regrouped < MaxStreams
	err = c.giveUp(why, again || u.opts.Resume || u.opts.Retries > 0)
	if _, ok := errors.AsType[boundary](err); !again || !ok {
		return nil, err
	}
	u.regrouped++
	return c.put(ctx, u)
}

// putJoined sends cells of an upload that another connection has open.
func (c *Client) putJoined(f *feed) error {
	msg := f.u.msg
	msg.Join = true
	c.request(wire.Put, msg)
	if err := c.flush(); err != nil {
		return nil
	}
	if _, _, err := c.reply(wire.Accept); err != nil {
		if _, ok := errors.AsType[boundary](err); !ok {
			c.breakWith(err)
		}
		return nil // the others take its cells
	}
	n, err := c.share(f, true)
	if err != nil {
		return err
	}
	if why := f.why(); why != nil {
		return c.giveUp(why, true)
	}
	c.out = wire.AppendFrame(c.out, wire.Header{Kind: wire.Finish, Flags: wire.Critical, Stream: c.stream, Index: uint64(n)}, nil)
	c.ended = true
	if err := c.flush(); err != nil {
		return err
	}
	h, _, err := c.reply(wire.Done)
	if err == nil && h.Index != uint64(n) {
		err = wire.Failf(wire.CodeProtocol, "DONE of %d cells, %d were sent", h.Index, n)
	}
	return err
}

// share sends cells of the feed until there are none, and returns how many.
func (c *Client) share(f *feed, joined bool) (n int, err error) {
	u := f.u
	buf := c.scratch(u.size)
	var encoded []byte
	for {
		i, data := f.take(buf)
		if i < 0 {
			return n, nil
		}
		if u.unhashed(i) {
			u.noteLeaf(i, sha256.Sum256(data))
		}
		if u.accepted(i) {
			continue
		}
		if u.params.Name != codec.None {
			if encoded, err = codec.AppendEncode(encoded[:0], data, u.params); err != nil {
				f.fail(source{err})
				return n, nil
			}
			data = encoded
		}
		if err := c.spend(u, joined); err != nil {
			return n, err
		}
		h := wire.Header{Kind: wire.Chunk, Flags: wire.Critical, Stream: c.stream, Index: uint64(i), Raw: uint32(u.size), Length: uint32(len(data))}
		if err := c.sendCell(h, data); err != nil {
			return n, err
		}
		n++
		f.sent()
	}
}

// spend takes the credit of one cell, and waits until there is enough.
func (c *Client) spend(u *upload, joined bool) error {
	if !joined {
		done, _, err := c.awaitCredit(u)
		if done {
			err = wire.Failf(wire.CodeProtocol, "the server sent RECEIPT among the cells of a PUT")
		}
		return err
	}
	cost := wire.Cost(uint32(u.size))
	for c.credit < cost {
		if err := c.flush(); err != nil {
			return err
		}
		h, _, err := c.next()
		if err == nil && h.Kind != wire.Ack && h.Kind != wire.Credit && h.Kind.Known() {
			err = wire.Failf(wire.CodeProtocol, "the server sent %v among the cells of a joined PUT", h.Kind)
		}
		if err != nil {
			return err
		}
	}
	c.credit -= cost
	return nil
}

// getShared asks for the missing cells on this connection and on up to streams - 1 others. done is false when it is not worth it, or
// no other connection is to be had: then nothing but d.begin has happened.
func (c *Client) getShared(ctx context.Context, name string, d *download, opts GetOptions) (st *Stat, done bool, err error) {
	b, err := c.ask(wire.Stat, wire.NameMessage{Name: name}, wire.Meta)
	if err != nil {
		return nil, true, err
	}
	st, meta, err := readMeta(b)
	if err != nil {
		return nil, true, err
	}
	switch again, err := d.begin(st, meta); {
	case again != nil:
		d.got = nil
		return nil, true, boundary{again}
	case err != nil:
		return nil, true, err
	}
	if d.ordered {
		return nil, false, nil
	}
	wanted := d.wanted()
	n := min(opts.Streams, d.missing, MaxStreams)
	if d.got == nil || n < 2 {
		return nil, false, nil
	}
	others := c.further(ctx, n-1)
	if len(others) == 0 {
		return nil, false, nil
	}
	parts := d.split(wanted, len(others)+1, opts.Progress)
	var running sync.WaitGroup
	failures := make([]error, len(others))
	for i, l := range others {
		running.Go(func() {
			failures[i] = on(ctx, l, "get", name, func() error { return l.getPart(name, parts[i+1]) })
		})
	}
	err = c.getPart(name, parts[0])
	if err != nil && c.whyBroken() != nil { // closed from outside: the others need not go on
		for _, l := range others {
			l.breakWith(err)
		}
	}
	running.Wait()
	for i, p := range parts[1:] {
		_, ours := errors.AsType[source](failures[i])
		switch {
		case failures[i] == nil || err != nil:
		case ours || p.id != d.id:
			err = boundary{failures[i]} // this connection is whole
		default: // and takes over
			err = c.getPart(name, p)
		}
	}
	d.merge(parts)
	if err == nil {
		err = d.checkRoot(st, meta)
	}
	return st, true, err
}

// getPart is the GET of what is missing of a part of an array, and once more of cells that came damaged.
func (c *Client) getPart(name string, d *download) error {
	for {
		clear(d.hurt)
		if err := c.getPartOnce(name, d); err != nil || d.missing == 0 {
			return err
		}
	}
}

func (c *Client) getPartOnce(name string, d *download) error {
	wanted := d.wanted()
	if d.got == nil {
		return boundary{wire.NewFailure(wire.CodeTemporary, "too many single cells are missing")}
	}
	c.request(wire.Get, wire.GetMessage{Name: name, Cells: wanted, Takes: []string{wire.FeatureFill}})
	if err := c.flush(); err != nil {
		return err
	}
	_, b, err := c.reply(wire.Meta)
	if err != nil {
		return err
	}
	st, meta, err := readMeta(b)
	if err != nil {
		return err
	}
	d.refuse = c.abandon
	if st.ID != d.id {
		d.id = st.ID
		return c.abandon(wire.NewFailure(wire.CodeTemporary, "the array was replaced while it was read"))
	}
	if len(meta.Codecs) > 0 {
		d.decoder = newDecoder(d)
		defer d.decoder.keep()
	}
	return c.cells(d, nil)
}

// merge notes what came of the parts.
func (d *download) merge(parts []*download) {
	for _, p := range parts {
		if p.id != d.id {
			d.got = nil // replaced: the next attempt asks for all
			return
		}
	}
	for _, p := range parts {
		for _, r := range p.only {
			for i := r[0]; i < r[0]+r[1]; i++ {
				if p.got != nil && p.got[i] {
					d.got[i] = true
					d.missing--
				}
			}
		}
	}
}

// split makes n downloads of the wanted cells, about the same number in each. They share memory for leaves and the sink, which is
// called by one at a time.
func (d *download) split(wanted [][2]uint64, n int, progress func(done, total int64)) []*download {
	total := int64(d.missing) * int64(d.size)
	sink := &sharedSink{Sink: d.sink, size: int64(d.size), total: total, progress: progress}
	parts := make([]*download, n)
	left := uint64(d.missing)
	for k := range parts {
		p := &download{sink: sink, only: [][2]uint64{}, id: d.id, grid: d.grid, size: d.size, item: d.item, leaves: d.leaves, got: make([]bool, d.grid.Len())}
		for share := left / uint64(n-k); share > 0; {
			take := min(share, wanted[0][1])
			p.only = append(p.only, [2]uint64{wanted[0][0], take})
			wanted[0][0] += take
			wanted[0][1] -= take
			share -= take
			left -= take
			if wanted[0][1] == 0 {
				wanted = wanted[1:]
			}
		}
		p.want(p.only)
		parts[k] = p
	}
	return parts
}

// sharedSink is a sink that several goroutines use in turn.
type sharedSink struct {
	Sink
	size, total int64
	progress    func(done, total int64)

	mu   sync.Mutex
	done int64 // guarded by mu
}

// Place implements Sink.
func (s *sharedSink) Place(i int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Sink.Place(i)
}

// Cell implements Sink.
func (s *sharedSink) Cell(i int, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Sink.Cell(i, data); err != nil {
		return err
	}
	s.done += s.size
	if s.progress != nil {
		s.progress(s.done, s.total)
	}
	return nil
}

// checkRoot compares the root over what came, when that is all, with that of the array.
func (d *download) checkRoot(st *Stat, meta *array.Meta) error {
	if d.leaves == nil || d.missing > 0 {
		return nil
	}
	if root := wire.Root(meta.Root(d.leaves)); root.String() != st.Root {
		if k, ok := d.base.(keeper); ok {
			k.forget()
		}
		return boundary{wire.Failf(wire.CodeIntegrity, "the root over what came is %v, the array was stored with %v", root, st.Root)}
	}
	return nil
}
