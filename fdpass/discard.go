//go:build linux || darwin || freebsd

package fdpass

// maxDiscards is how many descriptors are closed aside at a time. Each
// costs a thread while its close waits.
const maxDiscards = 64

var discards = make(chan struct{}, maxDiscards)

// Discard is Close for descriptors of a peer that is not trusted: it does not
// wait for their closes. Close of a descriptor that is neither a socket, a pipe,
// a memfd nor a handle of a path can take as long as the peer likes (a file on a
// file system that hangs), and each such is closed by a goroutine of its own.
// When 64 of those wait already, Discard waits for one; so who gets such
// descriptors from a peer does well to end the connection.
//
// The descriptors leave this process's table soon in any case, before their
// closes wait: a process that is started meanwhile does not hang on them.
func (f *Files) Discard() {
	for _, fd := range f.aside() {
		discards <- struct{}{}
		go func() {
			defer func() { <-discards }()
			closeEach(fd, 1)
		}()
	}
}

// Abandon is Discard for who may not wait at all, such as a readiness loop: what
// is more than 64 stays open until one of those is closed.
func (f *Files) Abandon() {
	for _, fd := range f.aside() {
		go func() {
			discards <- struct{}{}
			defer func() { <-discards }()
			closeEach(fd, 1)
		}()
	}
}

// aside closes what can be closed at once, and returns the rest, which is no
// longer in the set.
func (f *Files) aside() (rest []int) {
	for i, fd := range f.fds {
		if fd >= 0 && !closesAtOnce(fd) {
			rest = append(rest, fd)
			f.fds[i] = -1
		}
	}
	f.Close()
	return rest
}
