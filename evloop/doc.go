// Package evloop serves many connections from one goroutine. It waits with
// epoll, kqueue, poll or select, chosen at run time, and needs nothing but
// the standard library and golang.org/x/sys.
//
// # When to use it
//
// A goroutine per connection is simpler and, for a few busy connections, as
// fast. A loop pays when connections are many and mostly idle (an idle Conn
// is a few hundred bytes and owns no buffer), when memory must be bounded
// whatever clients do, or when a program needs what the runtime's poller
// hides: reading a payload straight to where it belongs, pausing, descriptors
// that arrive with the bytes, connections that move between processes.
// docs/benchmarks/loop.md has figures, losses among them.
//
// # One owner
//
// The goroutine that calls [Loop.Run] owns the loop, its connections and all
// callbacks: none of them takes a lock, none may be called from elsewhere,
// and none may block. [Loop.Post] is the one exception: it hands the loop a
// function from any goroutine. What would block or take more than 50 to 100
// µs goes through [Offload], which keeps the order of each connection and
// pauses a connection whose share is used up. Reading a file that is not in
// memory blocks too, also when it is mapped and a ReadInto writes to it.
//
// # A turn
//
//	settle      send what callbacks queued, one writev per connection;
//	            tell the poller what changed: nothing, for most messages
//	wait        first without sleeping while events flow, then asleep for
//	            ever or until the next timer
//	dispatch    each ready connection: output, then one read, then its reply
//	posted      functions from other goroutines, at most 256
//	timers      After, and the wheel of idle connections
//	close       the descriptors of connections that ended in this turn
//
// Polling is level-triggered: what stays ready is reported again, so a read
// may stop early for the sake of others, and pausing is nothing but not
// asking. Descriptors are closed last, because a number that came back in
// the same batch would get the old connection's events.
//
// # Reading
//
// [Handler].Data is given all unread bytes and says how many it used. The
// loop reads into one shared buffer; only what a handler leaves is copied, to
// a buffer that the connection keeps no longer than needed. A handler that
// has parsed a header calls [Conn.ReadInto] with the payload's destination:
// the kernel then copies straight to it, the call that fills it also catches
// the next header, and [Sink].Part sees each piece while it is still in
// cache. [Lines] and [Frames] are ready-made handlers.
//
// On Unix sockets every read is recvmsg, because a plain read drops
// descriptors silently. [Conn.AllowFiles] and [Conn.TakeFiles] bound and
// hand out what arrives.
//
// # Writing
//
// [Conn.Write] copies, [Conn.WriteOwned] and [Conn.SendFile] do not, and
// [Conn.Send] keeps the parts of a [Message] together, lends descriptors, and
// lets urgent messages overtake. What the kernel does not take is kept: at
// Config.HighWater the loop stops reading from that connection, below
// LowWater it goes on and calls Drained. A [Budget] bounds what connections
// buffer together, in the same way: by pausing, never by dropping.
//
// # Ending
//
// [Conn.Close] sends what is queued, ends our side, and waits for the peer's
// end, discarding its input, because closing with unread input would reset
// the connection and destroy the reply on its way. [Conn.Abort] does not
// wait. A peer that ends its side alone still gets everything queued.
// [Conn.Detach] and [Loop.Adopt] move a connection, with the bytes read and
// not used, and those queued and not sent.
//
// # The Go scheduler
//
// A goroutine that sleeps in epoll_wait holds its P, a slot to run Go code,
// until the runtime's monitor takes it back, 20 µs to 10 ms later. So the
// loop does not sleep while events flow, lets other goroutines run before it
// sleeps if its own callbacks may have made some ready, and once in a
// millisecond in any case. A process with other work should have GOMAXPROCS
// at its number of processors plus its number of loops.
//
// # Systems
//
// Linux: epoll, poll, select. FreeBSD and macOS: kqueue, poll, select; these
// are built and vetted, and the merging of kqueue's events is tested with
// scripted ones, but none of it has been run on those systems. select
// serves descriptors beyond 1,024 on Linux and FreeBSD; macOS refuses them
// (ErrFDTooLarge).
package evloop
