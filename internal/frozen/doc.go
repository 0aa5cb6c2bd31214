// Package frozen holds the tests that replay spec/frozen/v1: conversations between clients and servers as they were recorded, and a store as
// it was written, by version 1. They run against the server, the clients and the store of today, and fail when one of them understands
// something else. spec/frozen/v1/README.md says what the files are. Only make freeze-v1 writes them.
package frozen
