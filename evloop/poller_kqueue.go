//go:build darwin || freebsd

package evloop

import (
	"time"

	"golang.org/x/sys/unix"
)

var _ Poller = (*kqueue)(nil)

// kqueue has a filter each for reading and writing, which arrive as separate
// events; mergeKevents makes one Event per descriptor of them.
//
// It is cross-built and its merging is tested with scripted events. It has
// not been run against a BSD kernel.
type kqueue struct {
	fd    int
	batch []unix.Kevent_t
	merge merger
}

func newKqueue() (Poller, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	p := &kqueue{fd: fd}
	user := unix.Kevent_t{Filter: unix.EVFILT_USER, Flags: unix.EV_ADD | unix.EV_CLEAR}
	if _, err := unix.Kevent(fd, []unix.Kevent_t{user}, nil, nil); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return p, nil
}

func (p *kqueue) Name() string { return "kqueue" }

func (p *kqueue) Set(fd int, old, new Interest) error {
	changes := make([]unix.Kevent_t, 0, 2)
	change := func(bit Interest, filter int) {
		if (old^new)&bit == 0 {
			return
		}
		flags := unix.EV_DELETE
		if new&bit != 0 {
			flags = unix.EV_ADD
		}
		var k unix.Kevent_t
		unix.SetKevent(&k, fd, filter, flags|unix.EV_RECEIPT)
		changes = append(changes, k)
	}
	change(Read, unix.EVFILT_READ)
	change(Write, unix.EVFILT_WRITE)
	if len(changes) == 0 {
		return nil
	}
	receipts := make([]unix.Kevent_t, len(changes))
	n, err := unix.Kevent(p.fd, changes, receipts, nil)
	if err != nil {
		return err
	}
	for i := range n {
		errno := unix.Errno(receipts[i].Data)
		if errno != 0 && !(errno == unix.ENOENT && new == 0) { // close(2) had removed it
			return errno
		}
	}
	return nil
}

func (p *kqueue) Wait(ev []Event, d time.Duration) (int, error) {
	if len(p.batch) < len(ev) {
		p.batch = make([]unix.Kevent_t, len(ev))
	}
	var ts *unix.Timespec
	if d >= 0 {
		t := unix.NsecToTimespec(int64(d))
		ts = &t
	}
	n, err := unix.Kevent(p.fd, nil, p.batch[:len(ev)], ts)
	if err != nil {
		if err == unix.EINTR {
			return 0, nil
		}
		return 0, err
	}
	p.merge.begin()
	k := 0
	for i := range n {
		e := &p.batch[i]
		switch e.Filter {
		case unix.EVFILT_READ:
			k = p.merge.add(ev, k, int(e.Ident), Read, e.Flags&(unix.EV_EOF|unix.EV_ERROR) != 0 && e.Fflags != 0)
		case unix.EVFILT_WRITE:
			k = p.merge.add(ev, k, int(e.Ident), Write, e.Flags&(unix.EV_EOF|unix.EV_ERROR) != 0)
		}
	}
	return k, nil
}

func (p *kqueue) Wake() error {
	user := unix.Kevent_t{Filter: unix.EVFILT_USER, Fflags: unix.NOTE_TRIGGER}
	_, err := unix.Kevent(p.fd, []unix.Kevent_t{user}, nil, nil)
	return err
}

func (p *kqueue) Close() error { return unix.Close(p.fd) }
