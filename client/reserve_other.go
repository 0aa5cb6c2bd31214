//go:build !linux

package client

import "os"

// reserve makes the file size bytes long.
func reserve(f *os.File, size int64) error { return f.Truncate(size) }
