//go:build linux

package evloop

import (
	"bytes"
	"errors"
	"testing"
)

// feedAll gives data to a handler in pieces of the sizes in cuts, keeping
// what it leaves, as the loop does.
func feedAll(c *Conn, h Handler, data, cuts []byte) {
	var kept []byte
	for i := 0; len(data) > 0 && c.state == stOpen; i++ {
		n := len(data)
		if len(cuts) > 0 {
			n = min(n, 1+int(cuts[i%len(cuts)]))
		}
		kept = append(kept, data[:n]...)
		data = data[n:]
		kept = kept[h.Data(c, kept):]
	}
}

func fuzzConn() *Conn {
	w := newWorld(nil, map[triple]int{})
	w.stateF = func(int) connState { return stOpen }
	l := newLoop(Config{Log: quietLog()}, fakePoller{w}, w, func() int64 { return w.now })
	fd := w.alloc(&sock{})
	c := l.newConn(fd, nil, Base{})
	c.kind, c.state = kindTCP, stOpen
	return c
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("one\n\ntwo\r\n\xff\nrest"), []byte{0, 3}, 4)
	f.Add([]byte("\n\n\n"), []byte{}, 0)
	f.Add(bytes.Repeat([]byte("x"), 100), []byte{9}, 50)
	f.Fuzz(func(t *testing.T, data, cuts []byte, limit int) {
		limit = 1 + (limit&0xff+0x100)%0x100
		var want, got [][]byte
		tooLong := false
		for rest := data; !tooLong; {
			i := bytes.IndexByte(rest, '\n')
			if i > limit || i < 0 && len(rest) > limit {
				tooLong = true
			} else if i < 0 {
				break
			} else {
				want = append(want, rest[:i+1])
				rest = rest[i+1:]
			}
		}
		c := fuzzConn()
		var failed error
		h := &Lines{Max: limit, Line: func(_ *Conn, line []byte) error {
			got = append(got, bytes.Clone(line))
			return nil
		}}
		c.h = &funcs{closed: func(_ *Conn, err error) { failed = err }}
		feedAll(c, h, data, cuts)
		if len(got) != len(want) || tooLong != errors.Is(failed, ErrTooLong) {
			t.Fatalf("%d lines, want %d; too long %v, failed with %v", len(got), len(want), tooLong, failed)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("line %d: %q, want %q", i, got[i], want[i])
			}
		}
	})
}

// Frames of a one-byte header that is the payload's length.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{3, 'a', 'b', 'c', 0, 1, 'x'}, []byte{0}, 10)
	f.Add([]byte{200, 1, 2}, []byte{}, 100)
	f.Fuzz(func(t *testing.T, data, cuts []byte, limit int) {
		limit = 1 + (limit&0xff+0x100)%0x100
		var want, got [][]byte
		tooLong := false
		for rest := data; len(rest) > 0; {
			n := int(rest[0])
			if tooLong = n > limit; tooLong || len(rest) < 1+n {
				break
			}
			want = append(want, rest[1:1+n])
			rest = rest[1+n:]
		}
		c := fuzzConn()
		var failed error
		h := &Frames{HeaderSize: 1, Max: limit,
			Size:  func(h []byte) (int, error) { return int(h[0]), nil },
			Frame: func(_ *Conn, _, p []byte) error { got = append(got, bytes.Clone(p)); return nil },
		}
		c.h = &funcs{closed: func(_ *Conn, err error) { failed = err }}
		feedAll(c, h, data, cuts)
		if len(got) != len(want) || tooLong != errors.Is(failed, ErrTooLong) {
			t.Fatalf("%d frames, want %d; too long %v, failed with %v", len(got), len(want), tooLong, failed)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("frame %d: %q, want %q", i, got[i], want[i])
			}
		}
	})
}

// Whatever is queued and however few bytes each call sends, what is left is
// always the end of what was queued, and every message is done once.
func FuzzOutQueue(f *testing.F) {
	f.Add([]byte{1, 200, 3, 0, 90, 2, 255})
	f.Add([]byte{0, 0, 1, 1, 2, 2, 255, 255})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var q outQueue
		var pool blocks
		var want []byte
		done, queued := 0, 0
		for i, op := range ops {
			b := random(uint64(i), int(op)*7)
			switch i % 4 {
			case 0:
				q.appendCopy(b, &pool)
				want = append(want, b...)
			case 1:
				queued++
				q.push(false, segment{data: b, done: func(error) { done++ }})
				want = append(want, b...)
			case 2:
				queued++
				k := len(b) / 2
				q.push(false, segment{data: b[:k], flags: segMore}, segment{data: b[k:], done: func(error) { done++ }})
				want = append(want, b...)
			case 3:
				bufs, _ := q.next(nil, 1<<20)
				all := bytes.Join(bufs, nil)
				n := min(len(all), int(op)*int(op)/8)
				if !bytes.Equal(all, want[:len(all)]) {
					t.Fatal("the queue offers other bytes than were queued")
				}
				for _, f := range q.advance(int64(n), &pool, nil) {
					f(nil)
				}
				want = want[n:]
			}
			if q.bytes != int64(len(want)) {
				t.Fatalf("%d bytes queued, want %d", q.bytes, len(want))
			}
		}
		for _, f := range q.drop(&pool, nil) {
			f(nil)
		}
		if done != queued || q.bytes != 0 || !q.empty() {
			t.Fatalf("%d of %d messages done, %d bytes left", done, queued, q.bytes)
		}
	})
}
