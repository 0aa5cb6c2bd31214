//go:build !linux

package worker

// master is never there: descriptors are passed on Linux.
type master struct{}
