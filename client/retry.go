package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"ndferry/wire"
)

// Waiting between attempts: the n-th wait is a random time up to retryBase × 2ⁿ, at most retryMost (full jitter, as described in
// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
const (
	retryBase = 100 * time.Millisecond
	retryMost = 10 * time.Second
)

// retry runs attempt, and again at most retries times while it fails for a reason that may pass. Between two attempts it waits and
// connects again when the connection is gone. An attempt that moved reports so, and the count begins anew.
func (c *Client) retry(ctx context.Context, retries int, attempt func() (moved bool, err error)) error {
	for n := 0; ; n++ {
		moved, err := attempt()
		if moved {
			n = 0
		}
		for {
			if err == nil || n >= retries || !c.mayPass(ctx, err) {
				return err
			}
			wait := min(retryMost, retryBase<<min(n, 10))
			select {
			case <-ctx.Done():
				return err
			case <-c.rest(time.Duration(rand.Int64N(int64(wait) + 1))):
			}
			again := c.reconnect(ctx)
			if again == nil {
				break
			}
			err = errors.Join(err, again)
			n++
		}
	}
}

// mayPass tells that the same call may succeed later: the connection broke, bytes were damaged on their way, or the server says so.
func (c *Client) mayPass(ctx context.Context, err error) bool {
	if ctx.Err() != nil || c.addr == "" && c.whyBroken() != nil || errors.Is(c.whyBroken(), ErrClosed) {
		return false
	}
	if s, ok := errors.AsType[strand](err); ok {
		return s.again
	}
	if f, ok := errors.AsType[*wire.Failure](err); ok {
		closing := f.Code == wire.CodeIntegrity || f.Code == wire.CodeProtocol || f.Code == wire.CodeDeadline
		return f.Retryable || closing && c.whyBroken() != nil // what one side sent is not what the other got
	}
	if _, ok := errors.AsType[source](err); ok {
		return false
	}
	if e, ok := errors.AsType[*wire.Error](err); ok { // a header or payload that nobody sends
		return e.Code == wire.CodeIntegrity || e.Code == wire.CodeProtocol
	}
	return c.whyBroken() != nil
}

// source marks a failure of the caller's own reading or writing, which no other connection cures.
type source struct{ err error }

func (s source) Error() string { return s.err.Error() }
func (s source) Unwrap() error { return s.err }

// reconnect makes a broken client whole: a new connection to the same address.
func (c *Client) reconnect(ctx context.Context) error {
	if c.whyBroken() == nil {
		return nil
	}
	fresh, err := Dial(ctx, c.addr, c.cfg)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Lock()
	defer c.state.Unlock()
	if c.broken == ErrClosed {
		return errors.Join(fmt.Errorf("client: connect: %w", ErrClosed), fresh.nc.Close())
	}
	c.nc, c.in, c.out, c.peer, c.credit, c.stream = fresh.nc, fresh.in, fresh.out, fresh.peer, fresh.credit, fresh.stream
	c.grants, c.ended = fresh.grants, false
	c.forms = nil // another server may want it otherwise
	c.broken = nil
	return nil
}
