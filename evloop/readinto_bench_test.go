//go:build linux

package evloop

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkReadInto reads 4 MiB payloads over loopback TCP from a sender at
// full speed and from one that sends 32 KiB at a time with pauses, as a
// network does. cpu-ms/GB is of the whole process,
// the sender's share in it.
func BenchmarkReadInto(b *testing.B) {
	for _, name := range []string{"full", "paced"} {
		b.Run(name, func(b *testing.B) {
			const size = 4 << 20
			l, err := New(Config{Log: quietLog()})
			check(b, err)
			r := start(b, l)
			p := socketPair(b, "tcp", 0)
			dst, done := make([]byte, size), make(chan error, 1)
			var next func(c *Conn)
			left := b.N
			next = func(c *Conn) {
				check(b, c.ReadInto(dst, SinkFunc(func(c *Conn, err error) {
					if left--; err != nil || left == 0 {
						done <- err
						return
					}
					next(c)
				})))
			}
			var c *Conn
			r.do(func() {
				c, err = r.Adopt(p.fd, nil, &funcs{open: next})
				check(b, err)
			})
			data := make([]byte, size)
			b.SetBytes(size)
			b.ResetTimer()
			before := cpuTime(b)
			go func() {
				for range b.N {
					if name == "full" {
						_, _ = p.peer.Write(data)
						continue
					}
					for rest := data; len(rest) > 0; rest = rest[32<<10:] {
						_, _ = p.peer.Write(rest[:32<<10])
						time.Sleep(50 * time.Microsecond)
					}
				}
			}()
			check(b, <-done)
			b.ReportMetric((cpuTime(b)-before)*1e3/(float64(b.N)*size/1e9), "cpu-ms/GB")
			var s ConnStats
			r.do(func() { s = c.Stats() })
			b.ReportMetric(float64(s.Reads)/float64(b.N), "reads/op")
		})
	}
}

func cpuTime(b *testing.B) float64 {
	var u unix.Rusage
	check(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
