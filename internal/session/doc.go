// Package session is the server's side of one connection as a state machine: bytes in, actions out. It does no I/O, reads no
// clock and starts no goroutine, so the same code runs under goroutines on a net.Conn, under the event loop, in tests that cut a
// conversation anywhere, and in another process after it was frozen and imported.
//
//	         OnHeader OnPayload OnDone OnSent OnTick
//	                      │
//	driver ──────────► Session ──────────► Action: Send, Submit, Abandon, Arm, Close
//	  ▲                   │ Memory
//	  │                   ▼
//	  └──── Result ─── Executor ──► store.Store
//
// The driver reads a header and gives it to OnHeader, which answers with the memory for the payload; the driver reads the payload
// straight there, computes its CRC32C piece by piece, and reports with OnPayload. Whatever needs a store (open, write, sync, commit,
// read, check) is an [Operation]: a plain value that the driver gives to an [Executor] wherever it likes, in order, and whose
// [Result] comes back by OnDone. Actions are fetched with Next until there are none.
//
// A Session belongs to one goroutine, or to the holder of the driver's lock. Its memory is bounded by the credit that it grants
// ([Config].Window), by the cells that it reads ahead, and by wire.MaxStreams operations with at most a bit and, with sha256, 32 bytes for each cell.
package session
