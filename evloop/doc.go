// Package evloop is a readiness loop: one goroutine that serves many
// connections over epoll, kqueue, poll or select, chosen at run time.
package evloop
