package session

import "sync"

// Pool keeps the memory of cells between uses: fresh pages cost more than the network. It is shared by the connections of a
// process and may be called from any goroutine. The zero value works.
type Pool struct {
	limit int64 // set by Limit before the first use; 0 none

	mu      sync.Mutex
	free    map[int][][]byte // guarded by mu; by capacity, last used first
	idle    int              // guarded by mu; bytes in free
	used    int64            // guarded by mu; bytes taken and reserved
	peak    int64            // guarded by mu
	waiting []func()         // guarded by mu; for memory to receive into
	readers []func()         // guarded by mu; for memory to read stored cells into
}

// Limit bounds what may be taken at once to n bytes. Call it before the first use.
func (p *Pool) Limit(n int64) { p.limit = n }

// Used returns how many bytes are taken or reserved, and the most there ever were.
func (p *Pool) Used() (now, peak int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used, p.peak
}

// TryTake is Take within the limit, for one who holds held bytes already: it returns nil when size bytes more would exceed the
// limit, or be more than a quarter of what is free for all. So whoever holds nothing finds something, however many there are.
func (p *Pool) TryTake(size int, held int64) []byte {
	p.mu.Lock()
	n := int64(capacity(size))
	over := p.over(n) || p.limit > 0 && held > 0 && held+n > (p.limit-p.used)/4
	p.mu.Unlock()
	if over { // two callers at once may exceed the limit by one cell
		return nil
	}
	return p.Take(size)
}

// Reserve counts n bytes of the caller's own memory, if the limit lets it.
func (p *Pool) Reserve(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over(n) {
		return false
	}
	p.use(n)
	return true
}

// Release ends a Reserve.
func (p *Pool) Release(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unuse(n)
}

// Half tells that half of the limit is in use: the time to stop reading ahead for those who do not take what they asked for.
func (p *Pool) Half() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit > 0 && p.used > p.limit/2
}

// Await has f called once, on a goroutine of its own, in turn, when memory was given back, or with half set when three
// eighths or less are in use. It may be called when that is so already.
func (p *Pool) Await(half bool, f func()) {
	p.mu.Lock()
	switch {
	case p.used == 0 || half && p.used <= p.limit/8*3:
	case half:
		p.readers, f = append(p.readers, f), nil
	default:
		p.waiting, f = append(p.waiting, f), nil
	}
	p.mu.Unlock()
	if f != nil {
		go f()
	}
}

func (p *Pool) over(n int64) bool { return p.limit > 0 && p.used > 0 && p.used+n > p.limit }

func (p *Pool) use(n int64) {
	p.used += n
	p.peak = max(p.peak, p.used)
}

func (p *Pool) unuse(n int64) {
	p.used = max(0, p.used-n) // memory of an imported session was not taken here
	if p.used <= p.limit/8*7 || p.used == 0 {
		wake(&p.waiting)
	} else if len(p.waiting) > 0 { // one for each that is given back
		go p.waiting[0]()
		p.waiting = append(p.waiting[:0], p.waiting[1:]...)
	}
	if p.used <= p.limit/8*3 || p.used == 0 {
		wake(&p.readers)
	}
}

func wake(list *[]func()) {
	for _, f := range *list {
		go f()
	}
	*list = nil
}

// poolIdle bounds what a Pool keeps that nobody uses.
const poolIdle = 64 << 20

// Take returns size bytes of unknown content.
func (p *Pool) Take(size int) []byte {
	c := capacity(size)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.use(int64(c))
	if list := p.free[c]; len(list) > 0 {
		b := list[len(list)-1]
		p.free[c] = list[:len(list)-1]
		p.idle -= c
		return b[:size]
	}
	return make([]byte, size, c)
}

// Give takes back what Take returned; the caller must not use it any more.
func (p *Pool) Give(b []byte) {
	c := cap(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unuse(int64(c))
	if c != capacity(c) || p.idle+c > poolIdle {
		return
	}
	if p.free == nil {
		p.free = map[int][][]byte{}
	}
	p.free[c] = append(p.free[c], b)
	p.idle += c
}

// capacity rounds up, so that cells of about one size share memory: to 4 KiB, and above 64 KiB to 64 KiB.
func capacity(size int) int {
	step := 4 << 10
	if size > 64<<10 {
		step = 64 << 10
	}
	return (size + step - 1) / step * step
}
