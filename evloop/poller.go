//go:build linux || darwin || freebsd

package evloop

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Interest says what a registered descriptor waits for. The values are bits.
type Interest uint8

const (
	// Read asks for an event while a read would not block.
	Read Interest = 1 << iota
	// Write asks for an event while a write would not block.
	Write
	// Watch keeps a descriptor registered without asking for anything:
	// only errors and hang-ups are reported, by the backends that can.
	Watch
)

// Event is one ready descriptor. Every backend reports a descriptor at most
// once per Wait, reading and writing merged.
type Event struct {
	FD    int32
	Ready Interest // Read, Write or both
	Hup   bool     // error or hang-up condition: read it out, it decides nothing by itself
}

// Poller is the contract of a readiness backend. All backends are
// level-triggered: what stays ready is reported again.
//
// A Poller belongs to one goroutine, except for Wake.
type Poller interface {
	// Name returns "epoll", "kqueue", "poll" or "select".
	Name() string
	// Set changes what fd is registered for from old to new; 0 means not
	// registered. Equal values cost no system call. The caller passes the
	// old value because it knows it; a backend keeps no copy of its own
	// unless it needs one.
	Set(fd int, old, new Interest) error
	// Wait fills ev and returns how many events it holds. d < 0 waits for
	// ever, 0 does not wait; others are rounded up to what the backend can
	// express. An interrupted wait returns 0, nil. A call of Wake ends the
	// wait early and is not itself an event.
	Wait(ev []Event, d time.Duration) (int, error)
	// Wake ends a Wait that runs now, or the next one. Any goroutine may
	// call it, until Close returns.
	Wake() error
	// Close releases the backend's own descriptors.
	Close() error
}

// ErrFDTooLarge is returned by select's Set where the kernel refuses
// descriptors of 1,024 and above (macOS). Use poll or kqueue there.
var ErrFDTooLarge = errors.New("descriptor too large for select")

// A backend is a named constructor. backends, in a file per system, lists
// them in the order in which "auto" tries them.
type backend struct {
	name string
	open func() (Poller, error)
}

// Backends returns the names of the backends that this system's build has,
// best first.
func Backends() []string {
	var names []string
	for _, b := range backends {
		names = append(names, b.name)
	}
	return names
}

// Open returns a new poller by name. "" and "auto" try every backend, best
// first, and take the first that opens; a backend asked for by name is never
// replaced by another.
func Open(name string) (Poller, error) { return openFrom(backends, name) }

func openFrom(list []backend, name string) (Poller, error) {
	if name == "" || name == "auto" {
		var refused []error
		for _, b := range list {
			p, err := b.open()
			if err == nil {
				return p, nil
			}
			refused = append(refused, fmt.Errorf("%s: %w", b.name, err))
		}
		return nil, fmt.Errorf("evloop: open: no backend works: %w", errors.Join(refused...))
	}
	var names []string
	for _, b := range list {
		if b.name == name {
			p, err := b.open()
			if err != nil {
				return nil, fmt.Errorf("evloop: open %s: %w", name, err)
			}
			return p, nil
		}
		names = append(names, b.name)
	}
	return nil, fmt.Errorf("evloop: open: no backend %q on this system (have auto, %s)", name, strings.Join(names, ", "))
}

// millis rounds d up to whole milliseconds, because a wait that ends a
// fraction early would spin until its timer is due.
func millis(d time.Duration) int {
	if d < 0 {
		return -1
	}
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return int(min(ms, 1<<30))
}
