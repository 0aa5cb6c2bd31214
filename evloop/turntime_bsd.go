//go:build darwin || freebsd

package evloop

// threadCPU has no answer here: a turn counts as worked for what it took.
func threadCPU() (thread int, used int64) { return 0, 0 }
