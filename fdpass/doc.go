// Package fdpass moves open file descriptors between processes of one host
// over Unix sockets, and says at every step who owns them.
//
// # Ownership
//
// [Conn.Send] lends: the kernel takes references of its own, and the caller
// still owns every descriptor afterwards, whether Send succeeded or failed. A
// nil error means that the message is in the receiver's queue, not that anyone
// has read it; if the receiver dies first the kernel drops the references. So a
// sender keeps its copy until the receiver has answered.
//
// [Conn.Recv] gives: the caller owns the returned [Files] and must Take or
// Close each descriptor. When Recv fails, every descriptor that came with the
// message has been closed already.
//
// # Transports
//
// The default socket type is SOCK_SEQPACKET: one Send is one Recv, end of file
// is seen when the peer dies, and descriptors cannot be separated from their
// bytes. [Conn.SendFrame] and [Conn.RecvFrame] speak a length-prefixed JSON framing over
// SOCK_STREAM, for systems without SOCK_SEQPACKET (darwin) and for programs in
// other languages. On a stream, read with this package alone: a plain read
// across the byte that carries descriptors makes the kernel drop them.
//
// # Names
//
// Prefer no name: [Pair] and inheritance by a child process. Next best is a
// path ([ListenPath], [DialPath]) in a directory that only its owner may enter.
// A Linux abstract name ([ListenAbstract]) has no permissions at all: every
// process of the network namespace may connect, containers that share it
// included, and anyone may take the name once its owner is gone. It is never
// safer by itself; this package always checks the peer's credentials there, in
// both directions.
//
// # Deadlines
//
// All waiting goes through the runtime's poller: descriptors stay in
// non-blocking mode and are never duplicated, deadlines and contexts end a wait
// at once, and Close wakes whoever waits.
//
// A program that waits in a loop of its own takes a Conn out of that poller
// with [Conn.Detach] and [Bare], and receives with [Conn.TryRecv].
//
// Sources: unix(7), cmsg(3), socket(7), and the kernel's net/unix/af_unix.c and
// net/core/scm.c.
package fdpass
