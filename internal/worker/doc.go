// Package worker serves connections: it drives one session for each, over a store.
//
// In this version every connection has a goroutine that reads and, when there is much to send or slow work to do, one that
// writes and one that runs operations; the session and the queues between them are under the connection's one lock.
// A server on the event loop will drive the same sessions.
package worker
