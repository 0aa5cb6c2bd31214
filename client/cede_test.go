//go:build unix

package client

import (
	"testing"
	"time"
)

// TestCeder holds that who had to wait long for the processor keeps it for a while.
func TestCeder(t *testing.T) {
	var c ceder
	now := time.Unix(1000, 0)
	for range 10 {
		if !c.may(now) {
			t.Fatal("it may not, though nothing took long")
		}
		c.took(now, now.Add(cededLong-1))
	}
	end := now.Add(cededLong)
	c.took(now, end)
	for after, want := range map[time.Duration]bool{0: false, cedePause - 1: false, cedePause: true, time.Hour: true} {
		if got := c.may(end.Add(after)); got != want {
			t.Errorf("%v after it took long: %v", after, got)
		}
	}
}
