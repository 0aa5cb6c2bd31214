package worker

import (
	"net/netip"
	"sync"
	"syscall"
	"time"

	"ndferry/internal/sysmem"
)

// Limits of a server, spec/WIRE.md §8.1; those of frames and messages are in wire/limits.go. Each is the default of a Config's
// member of the same name.
const (
	DefaultHandshake  = 5 * time.Second  // to the peer's HELLO
	DefaultFrame      = 10 * time.Second // for each 64 KiB inside a frame
	DefaultStall      = 2 * time.Minute  // for a peer to take what is sent to it
	DefaultPerAddress = 1024             // connections of one address that is not of this host

	lastWords   = 2 * time.Second // for a peer to take the rest of its answer when the time to drain is over
	progress    = 64 << 10        // what Frame is for
	smallFrame  = 1 << 10         // payload of a control frame that no budget is asked for
	unreadShare = 8               // this part of Memory is for control frames that are being received
	maxMemory   = 2 << 30
	minReserve  = 256 // descriptors kept for the store, listeners and the runtime
)

// LimitsHelp says the limits in a sentence, for help texts; a test holds it to the constants.
const LimitsHelp = `a client has 5 s to say HELLO, 10 s for each 64 KiB of a frame,
2 min to take what it asked for, and may then be idle for as long as it likes.
Connections: --max-conns, and 1024 from one address of another host. Memory:
--buffers for arrays under way, --mem-limit for those kept in mem:`

// DefaultMemory is the smaller of a quarter of the memory that the process may use and 2 GiB.
func DefaultMemory() int64 { return min(sysmem.Total()/4, maxMemory) }

// DefaultConns is how many connections the process may have descriptors for: its limit less an eighth, at least 256, for the store.
func DefaultConns() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024 - minReserve
	}
	n := int(min(r.Cur, 1<<20))
	return max(n-max(n/8, minReserve), 16)
}

// admission counts connections. All methods may be called from any goroutine.
type admission struct {
	conns      int // immutable
	perAddress int // immutable

	mu      sync.Mutex
	free    *sync.Cond         // on mu
	open    int                // guarded by mu
	entered uint64             // guarded by mu
	strange int                // guarded by mu; from other hosts, that have not said HELLO
	from    map[netip.Addr]int // guarded by mu; from other hosts
	closed  bool               // guarded by mu
	waiting []func()           // guarded by mu; called when there is room
}

func newAdmission(conns, perAddress int) *admission {
	a := &admission{conns: conns, perAddress: perAddress, from: map[netip.Addr]int{}}
	a.free = sync.NewCond(&a.mu)
	return a
}

// wait returns when there is room for a connection, or false after close.
func (a *admission) wait() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.open >= a.conns && !a.closed {
		a.free.Wait()
	}
	return !a.closed
}

// roomOr tells that there is room for a connection; if not, f is called when there may be.
func (a *admission) roomOr(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open < a.conns {
		return true
	}
	a.waiting = append(a.waiting, f)
	return false
}

func (a *admission) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.free.Broadcast()
}

// ticket is the place of one connection.
type ticket struct {
	a       *admission
	addr    netip.Addr // invalid: of this host
	strange bool       // guarded by a.mu
	shared  bool       // immutable; other processes may have copies of the descriptor
	left    func()     // immutable; hears of the end; nil: nobody does
}

// enter claims a place for a connection from addr, host and port or anything else for one of this host; nil when there is none.
// At most a quarter of all places are for strangers that have not said HELLO.
func (a *admission) enter(addr string) *ticket {
	ap, _ := netip.ParseAddrPort(addr)
	return a.enterFrom(ap)
}

// enterFrom is enter for an address that is parsed; the zero value is of this host.
func (a *admission) enterFrom(peer netip.AddrPort) *ticket {
	t := &ticket{a: a}
	if addr := peer.Addr().Unmap(); addr.IsValid() && !addr.IsLoopback() {
		t.addr = addr.WithZone("")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open >= a.conns {
		return nil
	}
	if t.addr.IsValid() {
		if a.from[t.addr] >= a.perAddress || a.strange >= max(a.conns/4, 1) {
			return nil
		}
		a.from[t.addr]++
		a.strange++
		t.strange = true
	}
	a.open++
	a.entered++
	return t
}

// greeted is for the peer's HELLO.
func (t *ticket) greeted() {
	if !t.addr.IsValid() {
		return
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	if t.strange {
		t.strange = false
		t.a.strange--
	}
}

// leave gives the place back.
func (t *ticket) leave() {
	if t.left != nil {
		defer t.left() // when there is room for the next one
	}
	t.greeted()
	t.a.mu.Lock()
	t.a.open--
	if t.addr.IsValid() {
		if t.a.from[t.addr]--; t.a.from[t.addr] == 0 {
			delete(t.a.from, t.addr)
		}
	}
	t.a.free.Signal()
	waiting := t.a.waiting
	t.a.waiting = nil
	t.a.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}
