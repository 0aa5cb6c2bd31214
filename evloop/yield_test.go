//go:build linux

package evloop

import (
	"runtime"
	"testing"
	"time"
)

// TestYielder holds when a busy loop gives way: once a millisecond if somebody
// waits, else every eighth.
func TestYielder(t *testing.T) {
	audit(t)
	waits, looks := false, 0
	y := yielder{queued: func() bool { looks++; return waits }}
	gave := 0
	for us := int64(1); us <= 32_000; us += 10 { // turns of 10 µs
		if y.due(us * 1000) {
			gave++
		}
	}
	if gave < 3 || gave > 4 || looks < 25 || looks > 32 {
		t.Errorf("alone in 32 ms: gave way %d times, want 3 or 4; looked %d times, want some 28", gave, looks)
	}
	waits, gave = true, 0
	for us := int64(32_000); us < 64_000; us += 10 {
		if y.due(us * 1000) {
			gave++
		}
	}
	if gave < 30 || gave > 32 {
		t.Errorf("beside others in 32 ms: gave way %d times, want some 31", gave)
	}
	y.slept(100e6)
	if y.due(100e6 + yieldAfter - 1) {
		t.Error("gave way right after it had slept")
	}
}

// TestYielder_queued holds that the runtime says when a goroutine waits.
func TestYielder_queued(t *testing.T) {
	audit(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	y := newYielder()
	waitFor(t, func() bool {
		ran := make(chan struct{})
		go close(ran)
		queued := y.queued() // unless the runtime took us off in between
		<-ran
		return queued
	})
	waitFor(t, func() bool { return !y.queued() })
}

// TestYield_oneProcessor has a loop that never sleeps on the only processor:
// others run, because the loop gives way.
func TestYield_oneProcessor(t *testing.T) {
	audit(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := startLoop(t, Config{})
	stopped := false
	var busy func()
	busy = func() {
		if !stopped {
			_ = r.Post(busy)
		}
	}
	r.do(busy)
	before := r.stats()
	start := time.Now()
	for range 20 {
		r.do(func() {}) // this goroutine is made ready by the loop, and waits for its processor
	}
	after := r.stats()
	t.Logf("20 calls beside a busy loop took %v, in which it gave way %d times in %d turns", time.Since(start), after.Yields-before.Yields, after.Turns-before.Turns)
	if after.Yields-before.Yields < 10 {
		t.Errorf("the loop gave way %d times while 20 calls waited for the processor", after.Yields-before.Yields)
	}
	r.do(func() { stopped = true })
}
