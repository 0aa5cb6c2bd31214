package session

import "sync"

// Pool keeps the memory of cells between uses: fresh pages cost more than the network. It is shared by the connections of a
// process and may be called from any goroutine. The zero value works.
type Pool struct {
	mu   sync.Mutex
	free map[int][][]byte // guarded by mu; by capacity, last used first
	idle int              // guarded by mu; bytes in free
}

// poolIdle bounds what a Pool keeps that nobody uses.
const poolIdle = 64 << 20

// Take returns size bytes of unknown content.
func (p *Pool) Take(size int) []byte {
	c := capacity(size)
	p.mu.Lock()
	defer p.mu.Unlock()
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
