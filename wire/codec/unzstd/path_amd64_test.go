//go:build !purego

package unzstd

import "testing"

// eachPath runs test with the assembly, if this machine has it, and without.
func eachPath(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	saved := useBMI2
	defer func() { useBMI2 = saved }()
	if !saved {
		t.Log("this machine has no BMI2: the assembly is not tested")
	}
	for _, use := range []bool{false, true} {
		if useBMI2 = use; use && !saved {
			break
		}
		if test(t); t.Failed() {
			t.Fatalf("with the assembly: %v", use)
		}
	}
}
