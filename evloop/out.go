//go:build linux || darwin || freebsd

package evloop

// Message is a unit of output: its buffers go out in order and together, and
// no other message comes between them.
type Message struct {
	// Bufs are lent to the connection until Done is called.
	Bufs [][]byte
	// File, if FileLen > 0, is a regular file's descriptor of which FileLen
	// bytes from FileOff follow the buffers (sendfile). It is lent too.
	File    int
	FileOff int64
	FileLen int64
	// FDs are lent descriptors that travel with the first byte of Bufs, at
	// most 253. Unix sockets only.
	FDs []int
	// Urgent puts the message behind the one that is being sent and behind
	// earlier urgent ones, before all others.
	Urgent bool
	// Done, if not nil, is called exactly once, on the loop's goroutine:
	// with nil when the kernel has taken the last byte, else with the
	// reason why it never will.
	Done func(err error)
}

// segment is a contiguous piece of output. Its bytes are data, or n bytes of
// file from off.
type segment struct {
	data  []byte
	block []byte // the pooled block that data lies in, nil if lent
	files []int  // go with the first byte
	file  int
	off   int64
	n     int64
	done  func(error)
	flags segFlags
}

type segFlags uint8

const (
	segFile    segFlags = 1 << iota // bytes come from file
	segMore                         // the next segment belongs to the same message
	segStarted                      // a byte of the message left already
	segUrgent
)

func (s *segment) size() int64 {
	if s.flags&segFile != 0 {
		return s.n
	}
	return int64(len(s.data))
}

// outQueue is what waits to be sent: segs[head:], bytes of them in all.
type outQueue struct {
	segs  []segment
	head  int
	bytes int64
}

func (q *outQueue) empty() bool { return q == nil || q.head == len(q.segs) }

func (q *outQueue) size() int64 {
	if q == nil {
		return 0
	}
	return q.bytes
}

// push appends segments, or inserts them as an urgent message.
func (q *outQueue) push(urgent bool, segs ...segment) {
	for i := range segs {
		q.bytes += segs[i].size()
	}
	if !urgent {
		q.compact()
		q.segs = append(q.segs, segs...)
		return
	}
	i := q.head
	if i < len(q.segs) && q.segs[i].flags&segStarted != 0 { // never cut a message that has begun
		for i < len(q.segs) && q.segs[i].flags&segMore != 0 {
			i++
		}
		i++
	}
	for i < len(q.segs) && q.segs[i].flags&segUrgent != 0 {
		i++
	}
	for k := range segs {
		segs[k].flags |= segUrgent
	}
	tail := append([]segment(nil), q.segs[i:]...)
	q.segs = append(append(q.segs[:i], segs...), tail...)
}

// compact reclaims the sent front before an append would grow the slice.
func (q *outQueue) compact() {
	if q.head > 0 && len(q.segs) == cap(q.segs) {
		n := copy(q.segs, q.segs[q.head:])
		clear(q.segs[n:])
		q.segs, q.head = q.segs[:n], 0
	}
}

// appendCopy copies p behind everything queued, into pooled blocks.
func (q *outQueue) appendCopy(p []byte, pool *blocks) {
	q.bytes += int64(len(p))
	if n := len(q.segs); n > q.head {
		if last := &q.segs[n-1]; last.block != nil && last.flags&segUrgent == 0 {
			room := cap(last.data) - len(last.data)
			k := min(room, len(p))
			last.data = append(last.data, p[:k]...)
			p = p[k:]
		}
	}
	for len(p) > 0 {
		want := len(p)
		if q.head < len(q.segs) {
			want = max(want, 2*blockSizes[0])
		}
		b := pool.get(want)
		k := copy(b[:cap(b)], p)
		q.compact()
		q.segs = append(q.segs, segment{data: b[:k], block: b})
		p = p[k:]
	}
}

// next returns the leading buffers that one call can send, appended to bufs,
// and the descriptors that go with them. A segment with descriptors begins a
// call of its own, so that they arrive with its first byte.
func (q *outQueue) next(bufs [][]byte, budget int) ([][]byte, []int) {
	var files []int
	for i := q.head; i < len(q.segs) && len(bufs) < maxIov && budget > 0; i++ {
		s := &q.segs[i]
		if s.flags&segFile != 0 || (len(s.files) > 0 && i > q.head) {
			break
		}
		if len(s.data) == 0 {
			continue
		}
		if i == q.head {
			files = s.files
		}
		b := s.data[:min(len(s.data), budget)]
		budget -= len(b)
		bufs = append(bufs, b)
	}
	return bufs, files
}

// advance removes n sent bytes from the front. Finished segments go back to
// pool; callbacks that are due are appended to done and returned, to be
// called when the queue is consistent.
func (q *outQueue) advance(n int64, pool *blocks, done []func(error)) []func(error) {
	q.bytes -= n
	for q.head < len(q.segs) {
		s := &q.segs[q.head]
		if n > 0 {
			s.flags |= segStarted
			s.files = nil
		}
		size := s.size()
		if n < size {
			if s.flags&segFile != 0 {
				s.off += n
				s.n -= n
			} else {
				s.data = s.data[n:]
			}
			break
		}
		n -= size
		if s.flags&segMore != 0 { // the rest of the message may not be overtaken
			q.segs[q.head+1].flags |= segStarted
		}
		done = q.pop(pool, done)
	}
	if q.head == len(q.segs) {
		q.segs, q.head = q.segs[:0], 0
	}
	return done
}

func (q *outQueue) pop(pool *blocks, done []func(error)) []func(error) {
	s := &q.segs[q.head]
	if s.done != nil {
		done = append(done, s.done)
	}
	if s.block != nil {
		pool.put(s.block)
	}
	*s = segment{}
	q.head++
	return done
}

// drop empties the queue unsent and returns the callbacks that are due.
func (q *outQueue) drop(pool *blocks, done []func(error)) []func(error) {
	for q.head < len(q.segs) {
		done = q.pop(pool, done)
	}
	q.segs, q.head, q.bytes = q.segs[:0], 0, 0
	return done
}

// blockSizes are the sizes of pooled blocks.
var blockSizes = [...]int{2 << 10, 16 << 10, 64 << 10}

// blocks keeps released blocks by size, a bounded number of each. It belongs
// to one loop.
type blocks struct {
	free [len(blockSizes)][][]byte
}

const blocksKept = 1 << 20 // bytes per size

// get returns an empty block with room for n bytes, or the largest there is.
func (p *blocks) get(n int) []byte {
	class := len(blockSizes) - 1
	for i, size := range blockSizes {
		if n <= size {
			class = i
			break
		}
	}
	if k := len(p.free[class]); k > 0 {
		b := p.free[class][k-1]
		p.free[class] = p.free[class][:k-1]
		return b
	}
	return make([]byte, 0, blockSizes[class])
}

// put takes a block back. Blocks of other sizes are left to the collector.
func (p *blocks) put(b []byte) {
	for i, size := range blockSizes {
		if cap(b) == size && len(p.free[i]) < blocksKept/size {
			p.free[i] = append(p.free[i], b[:0])
			return
		}
	}
}
