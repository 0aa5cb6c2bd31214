//go:build !linux

package bench

import "errors"

// groupUsage cannot look into other processes here.
func groupUsage(int, bool) (usage, error) {
	return usage{}, errors.New("servers are measured on Linux only")
}
