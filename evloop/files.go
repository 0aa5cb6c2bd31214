//go:build linux || darwin || freebsd

package evloop

import "golang.org/x/sys/unix"

// ReceivedFile is a descriptor that came with the stream. It arrived with a
// byte at a position in [From, To), counted from the first byte that this
// loop read: the kernel tells no more than which read it came with, and ends
// that read with the sender's message.
type ReceivedFile struct {
	FD       int
	From, To int64
}

// fileQueue holds the descriptors that were received and not taken.
type fileQueue struct {
	limit int
	queue []ReceivedFile
}

// AllowFiles sets how many received descriptors may wait in the connection.
// The limit is 0 until the handler says otherwise; what exceeds it is closed,
// counted and logged. Unix sockets only.
func (c *Conn) AllowFiles(n int) {
	if c.files == nil {
		c.files = &fileQueue{}
	}
	c.files.limit = n
}

// TakeFiles removes up to n of the received descriptors, oldest first. The
// caller owns them. They are close-on-exec.
func (c *Conn) TakeFiles(n int) []ReceivedFile {
	if c.files == nil {
		return nil
	}
	q := c.files.queue
	n = min(n, len(q))
	got := append([]ReceivedFile(nil), q[:n]...)
	c.files.queue = append(q[:0], q[n:]...)
	return got
}

// Files returns how many received descriptors wait.
func (c *Conn) Files() int {
	if c.files == nil {
		return 0
	}
	return len(c.files.queue)
}

// recvFiles is the read of Unix sockets: a plain read would drop descriptors
// without a word.
func (c *Conn) recvFiles(a, b []byte) (int, unix.Errno) {
	l, room := c.loop, 0
	if c.files != nil {
		room = max(0, c.files.limit-len(c.files.queue))
	}
	n, got, lost, e := l.k.Recv(int(c.fd), a, b, room, l.passed[:0])
	if len(got) == 0 && !lost {
		return n, e
	}
	dropped := 0
	for i, fd := range got {
		if i < room {
			c.files.queue = append(c.files.queue, ReceivedFile{FD: fd, From: c.st.bytesIn, To: c.st.bytesIn + int64(n)})
		} else {
			l.k.Close(fd)
			dropped++
		}
	}
	l.passed = got[:0]
	if lost {
		dropped++ // at least one: the kernel does not say how many
	}
	if dropped > 0 {
		c.st.filesDropped += int64(dropped)
		l.cfg.Log.Warn("descriptors refused", "peer", c.peerString(), "at_least", dropped, "position", c.st.bytesIn)
	}
	return n, e
}

func (c *Conn) closeFiles() {
	if c.files != nil {
		for _, f := range c.files.queue {
			c.loop.k.Close(f.FD)
		}
		c.files.queue = nil
	}
}
