//go:build !purego

package codec

import (
	"testing"

	"golang.org/x/sys/cpu"
)

// twinOnly has no kernel that ever applies.
var twinOnly = kernels{width: 1 << 62, bits: 1 << 62}

// eachKernel runs test with the twin and with every instruction set that this
// machine has.
func eachKernel(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	saved := vector
	defer func() { vector = saved }()
	for _, k := range []struct {
		name string
		has  bool
		*kernels
	}{{"go", true, &twinOnly}, {"sse2", true, &sse2}, {"avx2", cpu.X86.HasAVX2, &avx2}} {
		if !k.has {
			t.Logf("this machine has no %s: not tested", k.name)
			continue
		}
		vector = k.kernels
		test(t)
		if t.Failed() {
			t.Fatalf("with %s kernels", k.name)
		}
	}
}
