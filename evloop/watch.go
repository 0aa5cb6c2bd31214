//go:build linux || darwin || freebsd

package evloop

import "fmt"

// Watcher has a function called when a descriptor can be read. It belongs to
// its loop's goroutine.
type Watcher struct {
	loop  *Loop
	fd    int32
	ready func()
}

// Watch has ready called on the loop's goroutine, once a turn, while fd can be
// read or its peer has gone: for descriptors that are no connection of bytes,
// such as a socket of messages. fd stays the caller's, who does not let it
// block the loop, and calls Stop before he closes it. Call Watch on the loop's
// goroutine, or before Run.
func (l *Loop) Watch(fd int, ready func()) (*Watcher, error) {
	l.stats.Registrations++
	if err := l.p.Set(fd, 0, Read); err != nil {
		return nil, fmt.Errorf("evloop: watch descriptor %d: %w", fd, err)
	}
	w := &Watcher{loop: l, fd: int32(fd), ready: ready}
	l.watchers[w.fd] = w
	return w, nil
}

// Stop ends the calls. Stopping again does nothing.
func (w *Watcher) Stop() {
	if w.loop.watchers[w.fd] != w {
		return
	}
	delete(w.loop.watchers, w.fd)
	w.loop.stats.Registrations++
	_ = w.loop.p.Set(int(w.fd), Read, 0) // the loop may have stopped
}
