//go:build linux

package evloop

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"
)

// TestShareThread has a loop woken by a peer, by another goroutine, by a timer and by an Offload, again and again, while it goes over from
// waiting in the scheduler to waiting in the kernel and back: nothing is missed.
func TestShareThread(t *testing.T) {
	r := startLoop(t, Config{Spin: true})
	p := socketPair(t, "unix", 0)
	peer := p.peer
	c := r.adopt(p.fd, newEcho())
	o := NewOffload(OffloadConfig{Workers: 2})
	defer o.Close()
	begin := time.Now()
	for round := range 600 {
		if round%100 == 0 {
			share := round%200 == 0
			r.do(func() {
				if r.ShareThread(share); r.shares != share {
					t.Errorf("round %d: the loop shares its thread is %v", round, r.shares)
				}
				if share {
					runtime.UnlockOSThread() // of more unlocks than locks nothing comes
				} else {
					runtime.LockOSThread()
				}
			})
		}
		text := fmt.Sprint("message ", round)
		if _, err := io.WriteString(peer, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(peer, make([]byte, len(text))); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		done := make(chan string, 3)
		check(t, r.Post(func() {
			done <- "posted"
			check(t, o.Go(c, func() {}, func(*Conn) { done <- "job" }))
			r.After(time.Duration(round%3)*time.Millisecond, func() { done <- "timer" })
		}))
		for range 3 {
			recv(t, done)
		}
	}
	t.Logf("600 rounds in %v", time.Since(begin))
}
