//go:build linux || darwin || freebsd

package evloop

import (
	"math/bits"
	"time"
)

// wheel holds one coarse deadline per connection: 512 slots of 100 ms, each
// a list. It is lazy: input and output only store the time, and when a
// slot's turn comes each of its connections is looked at and, if it was
// active since, put in a later one (libev's documentation calls this the
// third of four timeout strategies). Deadlines further away than the wheel
// turns are looked at once per turn.
type wheel struct {
	slots [wheelSlots]*Conn
	used  [wheelSlots / 64]uint64
	tick  int64 // the last slot time that was handled
}

func (w *wheel) init(now int64) { w.tick = now / int64(wheelTick) }

// arm puts c where it will be looked at no earlier than at, within a tick.
func (w *wheel) arm(c *Conn, at int64) {
	w.remove(c)
	t := min(max((at+int64(wheelTick)-1)/int64(wheelTick), w.tick+1), w.tick+wheelSlots-1)
	i := t % wheelSlots
	c.slot = int32(i)
	c.wnext = w.slots[i]
	if c.wnext != nil {
		c.wnext.wprev = c
	}
	w.slots[i] = c
	w.used[i/64] |= 1 << (i % 64)
}

func (w *wheel) remove(c *Conn) {
	if c.slot < 0 {
		return
	}
	if c.wprev != nil {
		c.wprev.wnext = c.wnext
	} else if w.slots[c.slot] = c.wnext; c.wnext == nil {
		w.used[c.slot/64] &^= 1 << (c.slot % 64)
	}
	if c.wnext != nil {
		c.wnext.wprev = c.wprev
	}
	c.wprev, c.wnext, c.slot = nil, nil, -1
}

// next returns when the next slot in use is due, 0 for never.
func (w *wheel) next() int64 {
	start := (w.tick + 1) % wheelSlots
	for k := int64(0); k <= wheelSlots/64; k++ { // the first word is seen twice: its later, then its earlier bits
		word := (start/64 + k) % (wheelSlots / 64)
		m := w.used[word]
		if k == 0 {
			m &= ^uint64(0) << (start % 64)
		}
		if m != 0 {
			slot := 64*word + int64(bits.TrailingZeros64(m))
			ahead := (slot - start + wheelSlots) % wheelSlots
			return (w.tick + 1 + ahead) * int64(wheelTick)
		}
	}
	return 0
}

// advance calls f for every connection whose slot has come.
func (w *wheel) advance(now int64, f func(*Conn)) {
	for to := now / int64(wheelTick); w.tick < to; {
		if w.used == [wheelSlots / 64]uint64{} {
			w.tick = to
			return
		}
		w.tick++
		i := w.tick % wheelSlots
		for c := w.slots[i]; c != nil; c = w.slots[i] {
			w.remove(c)
			f(c)
		}
	}
}

// SetIdle closes the connection with ErrIdle when nothing was read or
// written for d, within 100 ms. 0 means no limit.
func (c *Conn) SetIdle(d time.Duration) {
	c.idle = int64(d)
	if c.state != stOpen {
		return
	}
	if d == 0 {
		c.loop.wheel.remove(c)
	} else {
		c.loop.wheel.arm(c, c.st.lastIO+c.idle)
	}
}
