package worker

import (
	"log/slog"
	"runtime"
	"time"

	"ndferry/evloop"
)

const (
	// loopSlice is how long the system lets a loop compute before another thread's turn: the least there is. A thread with a short slice
	// is let in sooner when it wakes, which is what clients that ask beside bulk wait for on a machine whose processors are all busy.
	loopSlice = 100 * time.Microsecond

	bulkBytes = 128 << 10              // a payload or a cell of as much is bulk
	afterBulk = 200 * time.Millisecond // without any the thread is given back
)

// ownThread is a thread that a loop has for itself, with a short slice, while it moves bulk. At other times the loop shares the threads of
// the process: an operation on the store that it hands to another goroutine then runs right behind it, without one thread waking another.
// It belongs to the loop's goroutine.
type ownThread struct {
	loop *evloop.Loop
	log  *slog.Logger
	had  bool
	used bool // since the timer was armed
}

// take is called for whatever is bulk.
func (t *ownThread) take() {
	t.used = true
	if t.had {
		return
	}
	t.had = true
	runtime.LockOSThread() // the goroutine may end with it: then so does the thread
	t.slice(loopSlice)
	t.await()
}

func (t *ownThread) await() {
	t.loop.After(afterBulk, func() {
		if t.used {
			t.used = false
			t.await()
			return
		}
		t.had = false
		t.slice(0)
		runtime.UnlockOSThread()
	})
}

func (t *ownThread) slice(d time.Duration) {
	if err := setSlice(d); err != nil {
		t.log.Debug("event loop: others may have to wait longer", "err", err)
	}
}
