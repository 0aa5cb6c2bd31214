//go:build linux

package evloop

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWatch calls while there is something to read, and not after Stop.
func TestWatch(t *testing.T) {
	audit(t)
	for _, name := range Backends() {
		t.Run(name, func(t *testing.T) {
			r := startLoop(t, Config{Backend: name})
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[0])
			defer unix.Close(fds[1])
			calls := make(chan string, 100)
			var w *Watcher
			panics := true
			r.do(func() {
				w, err = r.Watch(fds[0], func() {
					if panics { // is logged, and the call comes again
						panics = false
						panic("planned")
					}
					b := make([]byte, 10)
					n, err := unix.Read(fds[0], b)
					if err != nil {
						calls <- err.Error()
						return
					}
					calls <- string(b[:n])
					if n == 0 {
						w.Stop()
						w.Stop()
					}
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			unix.Write(fds[1], []byte("one"))
			unix.Write(fds[1], []byte("two"))
			for _, want := range []string{"one", "two"} { // one message a call: the rest is told again
				if got := take(t, calls); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
			r.do(w.Stop)
			unix.Write(fds[1], []byte("unheard"))
			r.do(func() {})
			select {
			case got := <-calls:
				t.Errorf("called after Stop: %q", got)
			default:
			}
			r.do(func() { w, err = r.Watch(fds[0], w.ready) })
			if err != nil {
				t.Fatal(err)
			}
			if got := take(t, calls); got != "unheard" {
				t.Errorf("%q", got)
			}
			unix.Shutdown(fds[1], unix.SHUT_RDWR)
			if got := take(t, calls); got != "" {
				t.Errorf("at the end %q", got)
			}
			r.do(func() {
				if got := r.Stats().Panics; got != 1 {
					t.Errorf("%d panics", got)
				}
			})
		})
	}
}

func take(t *testing.T, from chan string) string {
	t.Helper()
	select {
	case s := <-from:
		return s
	case <-time.After(patience):
		t.Fatal("not called")
		return ""
	}
}

// TestWatch_fails does not watch what cannot be, and forgets it when the loop has ended.
func TestWatch_fails(t *testing.T) {
	audit(t)
	l, err := New(Config{Log: quietLog(), Backend: "epoll"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Watch(1<<20, nil); err == nil {
		t.Error("a descriptor that is not open is watched")
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	w, err := l.Watch(p[0], func() {})
	if err != nil {
		t.Fatal(err)
	}
	l.Stop()
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(l.watchers) != 0 {
		t.Error("the loop has ended and watches")
	}
	w.Stop()
}
