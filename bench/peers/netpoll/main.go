// Command netpoll is an echo server on cloudwego/netpoll with one poller.
// netpoll PORT
package main

import (
	"context"
	"os"

	"github.com/cloudwego/netpoll"
)

func main() {
	if err := netpoll.Configure(netpoll.Config{PollerNum: 1}); err != nil {
		panic(err)
	}
	ln, err := netpoll.CreateListener("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	loop, err := netpoll.NewEventLoop(func(_ context.Context, c netpoll.Connection) error {
		r, w := c.Reader(), c.Writer()
		b, err := r.Next(r.Len())
		if err != nil {
			return err
		}
		if _, err := w.WriteBinary(append([]byte(nil), b...)); err != nil {
			return err
		}
		return w.Flush()
	})
	if err != nil {
		panic(err)
	}
	panic(loop.Serve(ln))
}
