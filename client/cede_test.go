//go:build unix

package client

import (
	"testing"
	"time"
)

// TestCeder holds that who had to wait long for the processor keeps it for a while, twice as long each time, until it was quick often enough.
func TestCeder(t *testing.T) {
	var c ceder
	now := time.Unix(1000, 0)
	quick := func(times int) {
		for range times {
			if !c.may(now) {
				t.Fatal("it may not")
			}
			c.took(now, now.Add(cededLong-1))
		}
	}
	long := func(want time.Duration) {
		t.Helper()
		c.took(now, now.Add(cededLong))
		now = now.Add(cededLong + want - 1)
		if c.may(now) {
			t.Errorf("it may within %v", want)
		}
		if now = now.Add(1); !c.may(now) {
			t.Errorf("it may not after %v", want)
		}
	}
	quick(2 * cedeQuick)
	long(cedePause)
	quick(cedeQuick - 1)
	long(2 * cedePause)
	for pause := 4 * cedePause; pause < cedeLongest; pause *= 2 {
		long(pause)
	}
	long(cedeLongest)
	long(cedeLongest)
	quick(cedeQuick)
	long(cedePause)
}
