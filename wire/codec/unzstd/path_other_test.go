//go:build !amd64 || purego

package unzstd

import "testing"

func eachPath(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	test(t)
}
