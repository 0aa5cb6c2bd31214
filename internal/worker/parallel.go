package worker

import (
	"runtime"

	"ndferry/internal/session"
)

// runBeside begins op on a goroutine of its own when it may run beside others and few do, and reports so; otherwise it waits, when it
// must, for those that run. Called by the worker goroutine with mu held.
func (c *conn) runBeside(op session.Operation) bool {
	if !c.ex.Parallel(&op) {
		for c.beside > 0 {
			c.changed.Wait()
		}
		return false
	}
	if c.beside >= runtime.GOMAXPROCS(0) {
		return false // the worker goroutine takes it itself
	}
	c.beside++
	c.tasks.Add(1)
	go func() {
		defer c.tasks.Done()
		r := c.ex.Run(op, nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.beside--
		c.ses.OnDone(op.ID, r)
		c.act()
	}()
	return true
}
