//go:build linux

package evloop

import (
	"fmt"
	"hash/crc32"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkDetach answers whether large payloads should leave the loop: 64 of
// 4 MiB, or 16 of 16 MiB, over each of 1 and 8 loopback TCP connections, with
// a checksum, between headers that the loop reads. "loop" reads them by
// ReadInto; "detached" takes the connection out of its loop for each, has a
// goroutine read it with blocking calls of 1 MiB (MSG_WAITALL), and gives it
// back; "two" lets only two goroutines read at a time. There are two loops.
// cpu-ms/GB is of the whole process, the senders' share in it.
func BenchmarkDetach(b *testing.B) {
	for _, size := range []int{4 << 20, 16 << 20} {
		for _, conns := range []int{1, 8} {
			for _, how := range []string{"loop", "detached", "two"} {
				b.Run(fmt.Sprintf("%s/cell=%dM/clients=%d", how, size>>20, conns), func(b *testing.B) { benchDetach(b, how, size, conns) })
			}
		}
	}
}

// bulkReader takes an 8-byte header and a payload, again and again.
type bulkReader struct {
	Base
	r     *running
	how   string
	dst   []byte
	crc   uint32
	left  int // payloads
	taken bool
	slots chan struct{}
	done  chan error
}

func (r *bulkReader) Data(c *Conn, p []byte) int {
	if len(p) < 8 || r.taken {
		return 0
	}
	if r.how == "loop" {
		if err := c.ReadInto(r.dst, r); err != nil {
			r.done <- err
		}
		return 8
	}
	r.taken = true
	c.Pause()
	_ = c.Loop().Post(func() { r.leave(c) })
	return 8
}

func (r *bulkReader) Part(_ *Conn, p []byte) { r.crc = crc32.Update(r.crc, castagnoliTable, p) }

func (r *bulkReader) Done(_ *Conn, err error) { r.ended(err) }

func (r *bulkReader) ended(err error) {
	if r.left--; r.left == 0 || err != nil {
		r.done <- err
	}
}

// leave has a goroutine read the payload.
func (r *bulkReader) leave(c *Conn) {
	l := c.Loop()
	d, err := c.Detach()
	if err != nil {
		r.done <- err
		return
	}
	go func() {
		r.slots <- struct{}{}
		n := copy(r.dst, d.Unread)
		r.crc = crc32.Update(r.crc, castagnoliTable, r.dst[:n])
		err := unix.SetNonblock(d.FD, false)
		for n < len(r.dst) && err == nil {
			var k int
			k, _, err = unix.Recvfrom(d.FD, r.dst[n:min(len(r.dst), n+1<<20)], unix.MSG_WAITALL)
			if k == 0 && err == nil {
				err = ErrClosed
			}
			r.crc = crc32.Update(r.crc, castagnoliTable, r.dst[n:n+max(k, 0)])
			n += max(k, 0)
		}
		<-r.slots
		_ = l.Post(func() {
			r.taken = false
			if err == nil {
				_, err = l.Adopt(d.FD, d.Unread[min(len(d.Unread), len(r.dst)):], r)
			}
			r.ended(err)
		})
	}()
}

var castagnoliTable = crc32.MakeTable(crc32.Castagnoli)

func benchDetach(b *testing.B, how string, size, conns int) {
	const total = 256 << 20 // of each connection
	slots := make(chan struct{}, conns)
	if how == "two" {
		slots = make(chan struct{}, 2)
	}
	var loops []*running
	for range 2 {
		l, err := New(Config{Log: quietLog()})
		check(b, err)
		r := start(b, l)
		r.do(runtime.LockOSThread)
		loops = append(loops, r)
	}
	data := make([]byte, 8+size)
	var readers []*bulkReader
	var peers []pair
	for i := range conns {
		p := socketPair(b, "tcp", 0)
		h := &bulkReader{r: loops[i%2], how: how, dst: make([]byte, size), slots: slots, left: b.N * (total / size), done: make(chan error, 1)}
		h.r.do(func() {
			_, err := h.r.Adopt(p.fd, nil, h)
			check(b, err)
		})
		readers, peers = append(readers, h), append(peers, p)
	}
	b.SetBytes(int64(conns) * total)
	b.ResetTimer()
	before := cpuTime(b)
	for _, p := range peers {
		go func() {
			for range b.N * (total / size) {
				_, _ = p.peer.Write(data)
			}
		}()
	}
	for _, h := range readers {
		check(b, <-h.done)
	}
	b.ReportMetric((cpuTime(b)-before)*1e3/(float64(b.N)*float64(conns)*total/1e9), "cpu-ms/GB")
}
