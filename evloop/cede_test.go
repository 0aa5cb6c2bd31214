//go:build linux

package evloop

import (
	"testing"
	"time"
)

// ceding counts how often the loop cedes, each time for as long as takes says.
type ceding struct {
	kernel
	now   *int64
	takes time.Duration
	times int
}

func (k *ceding) Cede() {
	k.times++
	*k.now += int64(k.takes)
}

// TestCede holds that the loop cedes its processor whenever it asks, and not for a while after it had to wait long for it.
func TestCede(t *testing.T) {
	audit(t)
	p, err := Open("auto")
	check(t, err)
	now := int64(1)
	k := &ceding{kernel: newSystem(), now: &now, takes: time.Microsecond}
	l := newLoop(Config{Log: quietLog(), Spin: true}, p, k, func() int64 { now++; return now })
	cedes := func(calls int) int {
		before := k.times
		for range calls {
			l.cede()
		}
		return k.times - before
	}
	if n := cedes(10); n != 10 {
		t.Errorf("%d of 10", n)
	}
	long := func(pause int64) {
		t.Helper()
		k.takes = time.Duration(cededLong)
		if n := cedes(10); n != 1 {
			t.Errorf("%d of 10 where each takes long", n)
		}
		k.takes = 0
		now += pause - 100 // the clock ticks too
		if n := cedes(10); n != 0 {
			t.Errorf("%d of 10 in the pause of %d ns", n, pause)
		}
		now += 100
	}
	long(cedePause)
	if n := cedes(cedeQuick - 1); n != cedeQuick-1 {
		t.Errorf("%d after the pause", n)
	}
	for pause := 2 * cedePause; pause < cedeLongest; pause *= 2 {
		long(pause)
	}
	long(cedeLongest)
	long(cedeLongest)
	if n := cedes(cedeQuick); n != cedeQuick {
		t.Errorf("%d after the longest pause", n)
	}
	long(cedePause)
	before := k.times
	if _, err := l.spin(); err != nil || k.times == before {
		t.Errorf("asked without ceding, %v", err)
	}
	before = k.times
	l.sinks = 1 // bulk: a sender that is not done has more
	if _, err := l.spin(); err != nil || k.times != before {
		t.Errorf("ceded %d times in bulk, %v", k.times-before, err)
	}
	l.sinks = 0
	l.shutdown()
}
