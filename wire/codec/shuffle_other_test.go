//go:build !amd64 || purego

package codec

import "testing"

func eachKernel(t *testing.T, test func(t *testing.T)) { test(t) }
