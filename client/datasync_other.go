//go:build !linux

package client

import "os"

// dataSync makes bytes and size of a file durable.
func dataSync(f *os.File) error { return f.Sync() }
