// Package worker serves connections: it drives one session for each, over a store.
//
// Two drivers pass the same tests. The loop (loop.go, loopconn.go, loopact.go) drives TCP and Unix sockets, from one
// goroutine for each processor: a payload goes from the socket straight to its cell, its checksum is added
// piece by piece while it is in the cache, and what waits for a disk or computes much is done by workers, in the order of each
// connection. An idle connection owns no buffer and no goroutine. On Linux the first loop
// accepts on TCP listeners itself (door_linux.go). Under the other driver (conn.go, out.go) every connection has a goroutine that reads and, when there is much to
// send or slow work to do, one that writes and one that runs operations, under the connection's one lock. It is for
// connections that are more than a descriptor (TLS, pipes of a test), and for who asks for it. Either goes on with a session that comes from another
// worker (depart.go, loopdepart.go).
//
// What a server lets its clients make it hold is in limits.go.
package worker
