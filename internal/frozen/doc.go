// Package frozen holds the tests that replay spec/frozen/v1: conversations between clients and servers as they were recorded, and a store as
// it was written, by version 1. They run against the server, the clients and the store of today, and fail when one of them understands
// something else. spec/frozen/v1/README.md says what the files are. They never change; TestRecord -update writes those of a version that is not sealed.
package frozen
