package evloop

import (
	"testing"

	"ndferry/fdpass/fdtest"
)

// audit fails the test at its end when descriptors are left open, or one would be inherited. Every test begins with it.
func audit(t testing.TB) {
	t.Helper()
	fdtest.AuditNumbers(t)
}
